// What the sites do, by their instruction: the entries of `handlers`. t1 is the site, t0 the operand if there is one.

// SRET. To user mode: there SIE does not matter, so whatever is pending must be seen to first.
.global fast_sret
fast_sret:
    ld t0, {SSTATUS}(sp)
    andi t2, t0, {SPP}
    bnez t2, 1f
    ld t2, {READY}(sp)
    bnez t2, fast_bail
    ld t1, {ROOT_USER}(sp)
    beqz t1, fast_bail
    andi t2, t0, {SPIE}
    srli t2, t2, {SIE_TO_SPIE}
    andi t0, t0, ~{SIE}
    or t0, t0, t2
    ori t0, t0, {SPIE}
    sd t0, {SSTATUS}(sp)
    sd zero, {PRIVILEGE}(sp)
    ld t0, {SEPC}(sp)
    csrw sepc, t0
    csrw satp, t1
    FAST_SET_VECTOR fast_vector_user
    FAST_SWITCH_EXTRA {SENVCFG_USER}
    FAST_RETURN
// To supervisor mode: the same space.
1:
    andi t2, t0, {SPIE}
    beqz t2, 2f
    ld t1, {READY}(sp)
    bnez t1, fast_bail
2:
    srli t2, t2, {SIE_TO_SPIE}
    andi t0, t0, ~({SIE} | {SPP})
    or t0, t0, t2
    ori t0, t0, {SPIE}
    sd t0, {SSTATUS}(sp)
    ld t0, {SEPC}(sp)
    csrw sepc, t0
    FAST_RETURN

// CSRs that are fields of the frame.
.global fast_read
fast_read:
    ld t2, {SITE_FIELD}(t1)
    add t2, t2, sp
    ld t0, {CSR}(t2)
    FAST_GOTO {SITE_FINISH}

.global fast_write
fast_write:
    ld t2, {SITE_MASK}(t1)
    and t0, t0, t2
    ld t2, {SITE_FIELD}(t1)
    add t2, t2, sp
    sd t0, {CSR}(t2)
    FAST_RETURN

// Keeps t3.
.global fast_swap
fast_swap:
    sd t3, {T3}(sp)
    ld t2, {SITE_MASK}(t1)
    and t3, t0, t2
    ld t2, {SITE_FIELD}(t1)
    add t2, t2, sp
    ld t0, {CSR}(t2)
    sd t3, {CSR}(t2)
    ld t3, {T3}(sp)
    FAST_GOTO {SITE_FINISH}

// sstatus. Interrupts are let in only where none is ready.
.global fast_status_read
fast_status_read:
    FAST_READ_STATUS t0, t2
    FAST_GOTO {SITE_FINISH}

.global fast_interrupts_off
fast_interrupts_off:
    ld t0, {SSTATUS}(sp)
    andi t0, t0, ~{SIE}
    sd t0, {SSTATUS}(sp)
    FAST_RETURN

.global fast_interrupts_on
fast_interrupts_on:
    ld t2, {READY}(sp)
    bnez t2, fast_bail
    ld t0, {SSTATUS}(sp)
    ori t0, t0, {SIE}
    sd t0, {SSTATUS}(sp)
    FAST_RETURN

// From here on t3 is kept: t2 becomes the old value, t3 the new one.
.macro FAST_STATUS_OLD
    sd t3, {T3}(sp)
    FAST_READ_STATUS t2, t3
.endm

.global fast_status_set
fast_status_set:
    FAST_STATUS_OLD
    or t3, t2, t0
    j 1f

.global fast_status_clear
fast_status_clear:
    FAST_STATUS_OLD
    not t0, t0
    and t3, t2, t0
    j 1f

.global fast_status_write
fast_status_write:
    FAST_STATUS_OLD
    mv t3, t0
// t0 becomes the old value, for rd.
1:
    mv t0, t2
    ld t2, {STATUS_GUARD}(sp)
    and t2, t2, t3
    bnez t2, fast_bail_t3
    xor t2, t3, t0
    srli t2, t2, {VIEW_SHIFT}
    andi t2, t2, {VIEW} >> {VIEW_SHIFT}
    beqz t2, 2f
    // SUM changes: another root. Where MXR was set, none is at hand.
    ld t2, {ROOT_SUM}(sp)
    beqz t2, fast_bail_t3
    sd t3, {TP}(sp) // tp's place is free: the guest's tp is in tp
    slli t3, t3, {SUM_TO_SIGN}
    bltz t3, 4f
    ld t2, {ROOT_SUPERVISOR}(sp)
    beqz t2, fast_bail_t3
4:
    csrw satp, t2
    FAST_FLUSH_IF_NEEDED t3
    ld t3, {TP}(sp)
2:
    ld t2, {UNITS_WRITTEN}(sp)
    csrc sstatus, t2
    and t2, t2, t3
    csrs sstatus, t2
    li t2, {STATUS_KEPT}
    and t3, t3, t2
    li t2, {UXL}
    or t3, t3, t2
    sd t3, {SSTATUS}(sp)
    ld t3, {T3}(sp)
    FAST_GOTO {SITE_FINISH}

// satp, where the roots of the new space are at hand. Bare is never.
.global fast_satp
fast_satp:
    srli t2, t0, {ASID_SHIFT}
    xor t2, t2, t0
    andi t2, t2, {SPACE_COUNT} - 1
    slli t2, t2, {SPACE_SHIFT}
    add t2, t2, sp
    ld t1, {SPACES} + {SPACE_SATP}(t2)
    bne t1, t0, fast_bail
    beqz t0, fast_bail
    ld t1, {SSTATUS}(sp)
    slli t1, t1, {SUM_TO_SIGN}
    bltz t1, fast_bail
    sd t0, {SATP}(sp)
    ld t0, {SPACES} + {SPACE_USER}(t2)
    ld t1, {SPACES} + {SPACE_SUM}(t2)
    sd t0, {ROOT_USER}(sp)
    sd t1, {ROOT_SUM}(sp)
    ld t0, {SPACES} + {SPACE_SUPERVISOR}(t2)
    ld t1, {SPACES} + {SPACE_TAG}(t2)
    sd t0, {ROOT_SUPERVISOR}(sp)
    sd t1, {TAG}(sp)
    csrw satp, t0
    FAST_FLUSH_IF_NEEDED t1
    FAST_RETURN

// stvec. What is no mode is Rust's business.
.global fast_vector_write
fast_vector_write:
    andi t2, t0, {STVEC_NO_MODE}
    bnez t2, fast_bail
    sd t0, {STVEC}(sp)
    FAST_RETURN

// A fence of all addresses, in one address space or all: done where no table has changed that a shadow follows.
.global fast_fence
fast_fence:
    ld t2, {SETTLED}(sp)
    bltz t2, fast_bail
    ld t0, {MEMORY_UNWATCHED}(sp)
    ld t0, 0(t0)
    bne t0, t2, fast_bail
    ld t0, {FAST_FENCES}(sp)
    addi t0, t0, 1
    sd t0, {FAST_FENCES}(sp)
    FAST_RETURN
