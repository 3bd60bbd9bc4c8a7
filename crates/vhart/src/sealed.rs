//! What safe code cannot make the assembly do: read a wild address, jump to a wild handler, or run under a wild root. Each
//! attempt is refused by the compiler; beside it stands what is allowed instead. `tests/sealed` has the same for the target
//! on which the assembly runs, where an authority cannot even be simulated.
//!
//! The table of hints lies where its owner has it, and so does the guest's memory:
//! ```
//! # use {memory::GuestRam, vhart::{HintTable, VcpuFrame}};
//! fn go_by(frame: &mut VcpuFrame, ram: &GuestRam, hints: &HintTable) {
//!     frame.fast.set_memory(ram, hints);
//! }
//! ```
//! ```compile_fail,E0616
//! # use {memory::GuestRam, vhart::{HintTable, VcpuFrame}};
//! fn go_by(frame: &mut VcpuFrame, ram: &GuestRam, hints: &HintTable) {
//!     frame.fast.hints = 0x1234_5678;
//! }
//! ```
//! ```compile_fail,E0616
//! # use {memory::GuestRam, vhart::{HintTable, VcpuFrame}};
//! fn go_by(frame: &mut VcpuFrame, ram: &GuestRam, hints: &HintTable) {
//!     frame.fast.memory.plain = 0x1234_5678;
//! }
//! ```
//! A hint names a shadow table by its number, and the guest's by where it is:
//! ```
//! # use {core::sync::atomic::AtomicU64, vhart::{FillHint, HintTable, ShadowTables}};
//! fn insert(hints: &mut HintTable, tables: &ShadowTables, guest: &'static [AtomicU64; 512], hint: FillHint) {
//!     hints.insert(tables, guest, FillHint { table: 70, ..hint });
//! }
//! ```
//! ```compile_fail,E0560
//! # use {core::sync::atomic::AtomicU64, vhart::{FillHint, HintTable, ShadowTables}};
//! fn insert(hints: &mut HintTable, tables: &ShadowTables, guest: &'static [AtomicU64; 512], hint: FillHint) {
//!     hints.insert(tables, guest, FillHint { shadow: 0x1234_5678, ..hint });
//! }
//! ```
//! A root is one of a vCPU's:
//! ```
//! # use vhart::{Roots, ShadowTables};
//! fn root(tables: &ShadowTables) -> Roots {
//!     Roots { user: Some(tables.satp(3, 1)), ..Roots::NONE }
//! }
//! ```
//! ```compile_fail,E0308
//! # use vhart::{Roots, ShadowTables};
//! fn root(tables: &ShadowTables) -> Roots {
//!     Roots { user: Some(0x8000_0000_0008_0200), ..Roots::NONE }
//! }
//! ```
//! ```compile_fail,E0133
//! # use {core::num::NonZeroU64, memory::HartAuthority, vhart::{RootSatp, Roots, ShadowTables}};
//! fn root(tables: &ShadowTables) -> Roots {
//!     Roots { user: Some(RootSatp::new(NonZeroU64::MIN, HartAuthority::new())), ..Roots::NONE }
//! }
//! ```
//! and maps the hypervisor's window, which nobody writes:
//! ```
//! # use vhart::ShadowTables;
//! fn write(tables: &ShadowTables) {
//!     tables.set(0, 256, 0);
//! }
//! ```
//! ```compile_fail,E0624
//! # use vhart::ShadowTables;
//! fn write(tables: &ShadowTables) {
//!     tables.table(0).unwrap().entries()[256].set(0);
//! }
//! ```
//! Sites are served by handlers that `hart` vouches for, and name a CSR by its instruction:
//! ```
//! # use vhart::{HandlerTables, Handlers, SiteTable};
//! fn serve(sites: &mut SiteTable, handlers: Handlers) {
//!     sites.set_handlers(handlers);
//!     sites.insert(0x1234, 0, 0x1020_0073, 1);
//! }
//! ```
//! ```compile_fail,E0423
//! # use vhart::{HandlerTables, Handlers, SiteTable};
//! fn serve(sites: &mut SiteTable, tables: HandlerTables) {
//!     sites.set_handlers(Handlers(tables));
//! }
//! ```
//! ```compile_fail,E0133
//! # use {memory::HartAuthority, vhart::{HandlerTables, Handlers, SiteTable}};
//! fn serve(sites: &mut SiteTable, tables: HandlerTables) {
//!     sites.set_handlers(Handlers::new(tables, HartAuthority::new()));
//! }
//! ```
//! ```compile_fail,E0616
//! # use vhart::{HandlerTables, Handlers, SiteTable};
//! fn serve(sites: &mut SiteTable, handlers: Handlers) {
//!     sites.places[0].field = 1 << 40;
//! }
//! ```
//! Where memory lies is said by who hands it out:
//! ```
//! # use {core::sync::atomic::AtomicU64, memory::{HartAuthority, HostPhysAddr, HostWords}};
//! fn words(words: &'static [AtomicU64], authority: HartAuthority) -> HostWords {
//!     HostWords::new(words, HostPhysAddr(0x1234_0000), authority)
//! }
//! ```
//! ```compile_fail,E0451
//! # use {core::sync::atomic::AtomicU64, memory::{HartAuthority, HostPhysAddr, HostWords}};
//! fn words(words: &'static [AtomicU64], authority: HartAuthority) -> HostWords {
//!     HostWords { words, at: HostPhysAddr(0x1234_0000) }
//! }
//! ```
//! ```compile_fail,E0423
//! # use {core::sync::atomic::AtomicU64, memory::{HartAuthority, HostPhysAddr, HostWords}};
//! fn words(words: &'static [AtomicU64]) -> HostWords {
//!     HostWords::new(words, HostPhysAddr(0x1234_0000), HartAuthority(()))
//! }
//! ```
