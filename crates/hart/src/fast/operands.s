// The first step of a site, its operand, and the last, its result: x0 to x31, each with a piece of code. What kernels do
// most, locking and unlocking interrupts, has a piece for each register that does the whole of it.

.global fast_immediate
fast_immediate:
    ld t0, {SITE_OPERAND}(t1)
    FAST_GOTO {SITE_OP}

// Operands out of registers.
.macro FAST_SOURCE number
fast_source_\number:
    .if \number == {R_SP}
    csrr t0, sscratch
    .elseif \number == {R_T0} || \number == {R_T1} || \number == {R_T2}
    ld t0, {X} + {WORD} * \number(sp)
    .else
    mv t0, x\number
    .endif
    FAST_GOTO {SITE_OP}
.endm

// Results into registers, and back to the guest.
.macro FAST_FINISH number
fast_finish_\number:
    .if \number == {R_SP}
    csrw sscratch, t0
    .elseif \number == {R_T0} || \number == {R_T1} || \number == {R_T2}
    sd t0, {X} + {WORD} * \number(sp)
    .elseif \number != 0
    mv x\number, t0
    .endif
    FAST_RETURN
.endm

// Reads sstatus into a register and clears SIE.
.macro FAST_OFF_READ number
fast_off_read_\number:
    .if \number == 0 || \number == {R_SP} || \number == {R_T0} || \number == {R_T1} || \number == {R_T2}
    FAST_READ_STATUS t0, t2
    andi t2, t2, ~{SIE}
    sd t2, {SSTATUS}(sp)
    j fast_finish_\number
    .else
    FAST_READ_STATUS x\number, t2
    andi t2, t2, ~{SIE}
    sd t2, {SSTATUS}(sp)
    FAST_RETURN
    .endif
.endm

// Sets the bits of sstatus that a register has, and nobody asks what was: as a rule SIE if it was set before, or nothing.
// Interrupts are let in only where none is ready. Registers that are not where they were go the general way.
.macro FAST_RESTORE number
    .if \number == {R_SP} || \number == {R_T0} || \number == {R_T1} || \number == {R_T2}
    .set fast_restore_\number, fast_source_\number
    .else
8:
    mv t0, x\number
    j fast_status_set
fast_restore_\number:
    andi t2, x\number, ~{SIE}
    bnez t2, 8b
    beqz x\number, 9f
    ld t2, {READY}(sp)
    bnez t2, fast_bail
    ld t2, {SSTATUS}(sp)
    or t2, t2, x\number
    sd t2, {SSTATUS}(sp)
9:
    FAST_RETURN
    .endif
.endm

.macro FAST_OPERANDS number
    FAST_SOURCE \number
    FAST_FINISH \number
    FAST_OFF_READ \number
    FAST_RESTORE \number
.endm
FAST_FOR_EACH_REGISTER FAST_OPERANDS

// Where they are.
.pushsection .data.rel.ro.fast, "aw"
.balign 8
.macro FAST_SOURCE_ADDRESS number
    .dword fast_source_\number
.endm
.macro FAST_FINISH_ADDRESS number
    .dword fast_finish_\number
.endm
.macro FAST_OFF_READ_ADDRESS number
    .dword fast_off_read_\number
.endm
.macro FAST_RESTORE_ADDRESS number
    .dword fast_restore_\number
.endm
.global fast_sources
fast_sources:
    FAST_FOR_EACH_REGISTER FAST_SOURCE_ADDRESS
.global fast_finishes
fast_finishes:
    FAST_FOR_EACH_REGISTER FAST_FINISH_ADDRESS
.global fast_off_reads
fast_off_reads:
    FAST_FOR_EACH_REGISTER FAST_OFF_READ_ADDRESS
.global fast_restores
fast_restores:
    FAST_FOR_EACH_REGISTER FAST_RESTORE_ADDRESS
.popsection
