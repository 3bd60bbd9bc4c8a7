// A page fault: t2 is its cause less the first of their causes; t1 is the privilege. Where the tables of its range are known
// by a hint, the page is filled in if the guest's entry is ready for the access, and a user gets the fault if the entry
// refuses it. Everything else is `mmu`'s, which makes the hints. Keeps t3, t4 and t5.

fast_page_fault:
    addi t2, t2, -{PAGE_FAULT_CAUSES}
    bgtz t2, fast_leave // and interrupts are negative
    // One of our own is not to be taken for the guest's.
    csrr t0, sstatus
    andi t0, t0, {SPP}
    bnez t0, fast_leave
    sd t3, {T3}(sp)
    csrr t2, stval
    csrr t3, satp
    bgez t2, 1f
    // The shared half is supervisor mode's.
    beqz t1, fast_leave_t3
    li t3, 0
1:
    srli t1, t2, {RANGE_SHIFT}
    srli t0, t3, {ASID_SHIFT}
    xor t0, t0, t1
    andi t0, t0, {HINT_COUNT} - 1
    slli t0, t0, {HINT_SHIFT}
    sd t4, {T4}(sp)
    ld t4, {HINTS}(sp)
    add t0, t0, t4
    sd t5, {T5}(sp)
    beqz t4, fast_leave_t5
    ld t4, {HINT_RANGE}(t0)
    bne t4, t1, fast_leave_t5
    ld t4, {HINT_ROOT}(t0)
    bne t4, t3, fast_leave_t5
    // t2: the slot's offset; t1: the guest's entry; t5: the bit that the access wants of R, W, X.
    slli t2, t2, {XLEN} - {RANGE_SHIFT}
    srli t2, t2, {XLEN} - {RANGE_SHIFT} + {PAGE_SHIFT}
    slli t2, t2, {WORD_SHIFT}
    ld t1, {HINT_GUEST}(t0)
    add t1, t1, t2
    ld t1, 0(t1)
    csrr t4, scause
    addi t4, t4, -{FIRST_PAGE_FAULT}
    slli t4, t4, {WANTED_SHIFT}
    li t5, {WANTED}
    srl t5, t5, t4
    andi t5, t5, {RWX}
    ld t3, {HINT_MASK}(t0)
    and t3, t3, t1
    ld t4, {HINT_VALUE}(t0)
    bne t3, t4, 3f
    // t3: the leaf's flags. W only with D.
    ld t3, {HINT_KEPT}(t0)
    and t3, t3, t1
    srli t4, t1, {W_TO_D}
    and t4, t4, t1
    andi t4, t4, {W}
    or t3, t3, t4
    and t4, t3, t5
    beqz t4, 4f
    ori t3, t3, {LEAF}
    // Nothing there yet: else it is the TLB that has to forget something.
    ld t4, {HINT_SHADOW}(t0)
    add t4, t4, t2
    ld t4, 0(t4)
    bnez t4, fast_leave_t5
    // The page in RAM, in a block that is filled in and has no code of ours.
    slli t4, t1, {PTE_RESERVED}
    srli t4, t4, {PTE_RESERVED} + {PPN_SHIFT}
    slli t4, t4, {PAGE_SHIFT}
    ld t5, {MEMORY_BASE}(sp)
    sub t4, t4, t5
    ld t5, {MEMORY_SIZE}(sp)
    bgeu t4, t5, fast_leave_t5
    srli t5, t4, {RANGE_SHIFT}
    slli t5, t5, {BLOCK_STATE_SHIFT}
    sd t5, {X}(sp) // x0's place is free
    ld t5, {MEMORY_HOST}(sp)
    add t4, t4, t5
    srli t4, t4, {PAGE_SHIFT} - {PPN_SHIFT}
    or t3, t3, t4
    ld t4, {X}(sp)
    ld t5, {MEMORY_BLOCKS}(sp)
    add t4, t4, t5
    lhu t4, 0(t4)
    bnez t4, fast_leave_t5
    // The leaf, what it was made of, and that the slot is in use.
    ld t4, {HINT_SHADOW}(t0)
    add t4, t4, t2
    sd t3, 0(t4)
    ld t4, {HINT_SEEN}(t0)
    add t4, t4, t2
    sd t1, 0(t4)
    srli t2, t2, {WORD_SHIFT}
    srli t4, t2, {XLEN_SHIFT}
    slli t4, t4, {WORD_SHIFT}
    ld t5, {HINT_USED}(t0)
    add t4, t4, t5
    ld t5, 0(t4)
    li t1, 1
    sll t1, t1, t2
    or t5, t5, t1
    sd t5, 0(t4)
    // What can be written may have to be found again: its block of host memory is noted.
    andi t4, t3, {W}
    beqz t4, 2f
    sd t4, {FILLED_WRITABLE}(sp)
    srli t3, t3, {RANGE_SHIFT} - ({PAGE_SHIFT} - {PPN_SHIFT})
    li t4, 1
    sll t4, t4, t3
    ld t5, {HINT_USED}(t0)
    ld t3, {BLOCKS_BEHIND_USED}(t5)
    or t3, t3, t4
    sd t3, {BLOCKS_BEHIND_USED}(t5)
2:
    ld t3, {T3}(sp)
    ld t4, {T4}(sp)
    ld t5, {T5}(sp)
    FAST_RETURN
// Not ready: only an entry that is not valid is sure to be the guest's own fault.
3:
    andi t3, t1, {V}
    bnez t3, fast_leave_t5
    j 5f
// Ready, but not for this access. With W and without D it is the walk's to set D.
4:
    and t3, t1, t5
    bnez t3, fast_leave_t5
5:
    ld t3, {T3}(sp)
    ld t4, {T4}(sp)
    ld t5, {T5}(sp)
    ld t0, {PRIVILEGE}(sp)
    bnez t0, fast_leave
    csrr t0, scause
    csrr t1, stval
    j fast_enter

fast_leave_t5:
    ld t4, {T4}(sp)
    ld t5, {T5}(sp)

fast_leave_t3:
    ld t3, {T3}(sp)
    j exit_of_guest
