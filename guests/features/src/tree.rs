//! The device tree that a guest was given, as far as feature guests look into it. Devicetree spec 0.4, chapter 5.

/// The flattened tree.
pub fn bytes(device_tree: u64) -> &'static [u8] {
    // SAFETY: the boot protocol says that there is a device tree, and its second word how long it is.
    unsafe {
        let size = u32::from_be(core::ptr::read_volatile((device_tree as *const u32).add(1)));
        core::slice::from_raw_parts(device_tree as *const u8, size as usize)
    }
}

/// The value of the first property of this name in any node.
///
/// # Panics
/// Where there is none.
pub fn property(device_tree: u64, name: &str) -> &'static [u8] {
    const BEGIN_NODE: u32 = 1;
    const PROP: u32 = 3;
    const END: u32 = 9;
    let tree = bytes(device_tree);
    let cell = |at: usize| u32::from_be_bytes(tree[at..at + 4].try_into().unwrap_or_default()) as usize;
    let until_nul = |at: usize| tree[at..].split(|byte| *byte == 0).next().unwrap_or_default();
    let (mut at, strings) = (cell(8), cell(12));
    loop {
        let token = cell(at) as u32;
        at += 4;
        match token {
            BEGIN_NODE => at += (until_nul(at).len() + 1).next_multiple_of(4),
            PROP => {
                let (len, found) = (cell(at), until_nul(strings + cell(at + 4)));
                at += 8;
                if found == name.as_bytes() {
                    return &tree[at..at + len];
                }
                at += len.next_multiple_of(4);
            }
            END => panic!("no {name} in the device tree"),
            _ => {}
        }
    }
}
