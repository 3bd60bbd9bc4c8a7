// The first step of a site, its operand, and the last, its result: x0 to x31, each with a piece of code.

.global fast_immediate
fast_immediate:
    ld t0, {SITE_OPERAND}(t1)
    FAST_GOTO {SITE_OP}

// Operands out of registers.
.macro FAST_SOURCE number
fast_source_\number:
    .if \number == 2
    csrr t0, sscratch
    .elseif \number == 5 || \number == 6 || \number == 7
    ld t0, {X} + 8 * \number(sp)
    .else
    mv t0, x\number
    .endif
    FAST_GOTO {SITE_OP}
.endm

// Results into registers, and back to the guest.
.macro FAST_FINISH number
fast_finish_\number:
    .if \number == 2
    csrw sscratch, t0
    .elseif \number == 5 || \number == 6 || \number == 7
    sd t0, {X} + 8 * \number(sp)
    .elseif \number != 0
    mv x\number, t0
    .endif
    FAST_RETURN
.endm

.macro FAST_OPERANDS number
    FAST_SOURCE \number
    FAST_FINISH \number
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
.global fast_sources
fast_sources:
    FAST_FOR_EACH_REGISTER FAST_SOURCE_ADDRESS
.global fast_finishes
fast_finishes:
    FAST_FOR_EACH_REGISTER FAST_FINISH_ADDRESS
.popsection
