// Each compressed instruction that an interpreter of the assembly may meet, and the same one again as it is without C.

.macro PAIR text:vararg
.option push
.option rvc
    \text
.option pop
.option push
.option norvc
    \text
.option pop
.endm

// One that goes to a place: that is compressed only where the place has a name.
.macro PAIR_TO offset, text:vararg
.option push
.option rvc
.set .Lpair_short_\@, . + \offset
    \text .Lpair_short_\@
.option pop
.option push
.option norvc
.set .Lpair_long_\@, . + \offset
    \text .Lpair_long_\@
.option pop
.endm

.balign 4
.global assembly_pairs
assembly_pairs:
// Quadrant 0.
.irp imm, 4,8,16,32,64,512,1020
    PAIR addi a0, sp, \imm
    PAIR addi s0, sp, \imm
.endr
.irp imm, 0,4,8,64,124
    PAIR lw a5, \imm(s1)
    PAIR sw s0, \imm(a4)
.endr
.irp imm, 0,8,16,64,128,248
    PAIR ld a5, \imm(s1)
    PAIR sd s0, \imm(a4)
.endr
// Quadrant 1.
.irp imm, -32,-1,1,2,31
    PAIR addi t0, t0, \imm
    PAIR addiw s3, s3, \imm
    PAIR addi t6, zero, \imm
    PAIR andi a3, a3, \imm
    PAIR lui t1, \imm & 0xfffff
.endr
.irp imm, -512,-16,16,32,64,128,256,496
    PAIR addi sp, sp, \imm
.endr
.irp imm, 1,5,31,32,63
    PAIR srli s1, s1, \imm
    PAIR srai a2, a2, \imm
    PAIR slli t2, t2, \imm
.endr
.irp name, sub,xor,or,and,subw,addw
    PAIR \name a0, a0, s1
    PAIR \name s0, s0, a5
.endr
.irp offset, -2048,-34,-2,2,4,8,16,32,64,128,256,512,1024,2046
    PAIR_TO \offset, jal zero,
.endr
.irp offset, -256,-34,-2,2,4,8,16,32,64,128,254
    PAIR_TO \offset, beq a1, zero,
    PAIR_TO \offset, bne s1, zero,
.endr
// Quadrant 2.
.irp imm, 0,4,16,32,64,128,252
    PAIR lw t3, \imm(sp)
    PAIR sw t4, \imm(sp)
.endr
.irp imm, 0,8,32,64,256,504
    PAIR ld t3, \imm(sp)
    PAIR sd t4, \imm(sp)
.endr
PAIR jalr zero, 0(t2)
PAIR jalr ra, 0(s5)
PAIR add t1, zero, t6
PAIR add s7, s7, a0
.global assembly_pairs_end
assembly_pairs_end:
    ret
