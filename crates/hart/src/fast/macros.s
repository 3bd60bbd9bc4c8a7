// What the other files write often.

// The head of a vector: t0 is the cause.
.macro FAST_VECTOR
    csrrw sp, sscratch, sp
    sd t0, {T0}(sp)
    sd t1, {T1}(sp)
    sd t2, {T2}(sp)
    csrr t0, scause
.endm

// Back to the guest with its registers as they are.
.macro FAST_RETURN
    ld t0, {FAST_EXITS}(sp)
    addi t0, t0, 1
    sd t0, {FAST_EXITS}(sp)
    ld t0, {T0}(sp)
    ld t1, {T1}(sp)
    ld t2, {T2}(sp)
    csrrw sp, sscratch, sp
    sret
.endm

// To what the site says; t1 is the site.
.macro FAST_GOTO field
    ld t2, \field(t1)
    jr t2
.endm

// Traps go to the vector of the mode that the guest is in from now on: uses t0.
.macro FAST_SET_VECTOR vector
    lla t0, \vector
    csrw stvec, t0
.endm

// After a write of satp, what the hart may have cached of the root before is forgotten where it has too few ASIDs.
.macro FAST_FLUSH_IF_NEEDED free
    ld \free, {FLUSH_ON_SWITCH}(sp)
    beqz \free, 96f
    sfence.vma
    ld \free, {SWITCH_FLUSHES}(sp)
    addi \free, \free, 1
    sd \free, {SWITCH_FLUSHES}(sp)
96:
.endm

// What has to be done besides after satp was written for another mode: uses t0.
.macro FAST_SWITCH_EXTRA senvcfg
    ld t0, {SWITCH_EXTRA}(sp)
    beqz t0, 97f
    FAST_FLUSH_IF_NEEDED t0
    ld t0, {SWITCH_SENVCFG}(sp)
    beqz t0, 97f
    ld t0, \senvcfg(sp)
    csrw senvcfg, t0
97:
.endm

// sstatus as the guest sees it; `kept` becomes what the frame has of it.
.macro FAST_READ_STATUS value, kept
    csrr \value, sstatus
    ld \kept, {UNITS_READ}(sp)
    and \value, \value, \kept
    ld \kept, {SSTATUS}(sp)
    or \value, \value, \kept
.endm

// For each number of a register.
.macro FAST_FOR_EACH_REGISTER what
.irp number, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    \what \number
.endr
.endm
