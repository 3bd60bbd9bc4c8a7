#[test] fn t(){ let mut c = softcore_rv64::new_core(softcore_rv64::config::U74); c.reset(); }
