// Where traps arrive: finds the site of a breakpoint, tells page faults apart, and leaves to Rust what it does not know.
// What an ecall of the guest's user leads to is here, too: the entry of its kernel.

// The vector of virtual supervisor mode.
.balign 4
.global fast_vector
fast_vector:
    FAST_VECTOR
    addi t2, t0, -{BREAKPOINT}
    bnez t2, fast_not_a_breakpoint
    // A breakpoint. The site may be in its first place, for all spaces or for this one.
    csrr t0, sepc
    ld t2, {SITES}(sp)
    slli t1, t0, {SITE_LEFT}
    srli t1, t1, {SITE_RIGHT}
    add t1, t1, t2
    ld t2, {SITE_TAG}(t1)
    bne t2, t0, 2f
1:
    addi t0, t0, {SITE_LENGTH}
    csrw sepc, t0
    FAST_GOTO {SITE_FIRST}
2:
    xor t2, t2, t0
    ld t0, {TAG}(sp)
    beq t0, t2, 3f
    // Or in its second place.
    csrr t0, sepc
    srli t1, t0, {SITE_FOLD}
    xor t1, t1, t0
    slli t1, t1, {SITE_LEFT}
    srli t1, t1, {SITE_INDEX}
    slli t1, t1, {SITE_SHIFT}
    ld t2, {SITES}(sp)
    add t1, t1, t2
    ld t2, {SITE_TAG}(t1)
    xor t2, t2, t0
    beqz t2, 1b
    ld t0, {TAG}(sp)
    bne t0, t2, fast_leave
3:
    csrr t0, sepc
    addi t0, t0, {SITE_LENGTH}
    csrw sepc, t0
    FAST_GOTO {SITE_FIRST}

// Exits that Rust serves. At a site, the pc goes back to it first.
fast_bail_t3:
    ld t3, {T3}(sp)

fast_bail:
    csrr t0, sepc
    addi t0, t0, -{SITE_LENGTH}
    csrw sepc, t0

fast_leave:
    j {exit_saved}

fast_not_a_breakpoint:
    li t1, {SUPERVISOR}
    addi t2, t0, -{FIRST_PAGE_FAULT}
    bgez t2, fast_page_fault
    j {exit_saved}

// The vector of virtual user mode. Most traps there are ecalls.
.balign 4
.global fast_vector_user
fast_vector_user:
    FAST_VECTOR
    addi t2, t0, -{ECALL_FROM_USER}
    li t1, {USER}
    beqz t2, fast_enter
    addi t2, t0, -{FIRST_PAGE_FAULT}
    bgez t2, fast_page_fault
    j {exit_saved}

// The guest's trap entry from user mode: t0 is the cause, t1 stval. Priv. spec, "Supervisor Status Register":
// SPP <- 0, SPIE <- SIE, SIE <- 0.
fast_enter:
    ld t2, {ROOT_SUPERVISOR}(sp)
    beqz t2, fast_leave
    ld t2, {SSTATUS}(sp)
    slli t2, t2, {SUM_TO_SIGN}
    bltz t2, fast_leave
    sd t0, {SCAUSE}(sp)
    sd t1, {STVAL}(sp)
    csrr t0, sepc
    sd t0, {SEPC}(sp)
    ld t1, {SSTATUS}(sp)
    andi t0, t1, {SIE}
    andi t1, t1, ~({SIE} | {SPIE} | {SPP})
    slli t0, t0, {SIE_TO_SPIE}
    or t1, t1, t0
    sd t1, {SSTATUS}(sp)
    li t0, {SUPERVISOR}
    sd t0, {PRIVILEGE}(sp)
    ld t0, {STVEC}(sp)
    andi t0, t0, ~{STVEC_MODE}
    csrw sepc, t0
    ld t0, {ROOT_SUPERVISOR}(sp)
    csrw satp, t0
    FAST_SET_VECTOR fast_vector
    FAST_SWITCH_EXTRA {SENVCFG_SUPERVISOR}
    FAST_RETURN
