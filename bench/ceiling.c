/* What the processor's multiply-adds give at best, without memory: float32, bfloat16 and int8 in 512-bit registers.

       gcc -O2 -mavx512f -mavx512bf16 -mavx512vnni -pthread bench/ceiling.c -o ceiling && ./ceiling 2

   Thousand millions of operations a second, a multiply-add being two, of so many threads, five times. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define LOOPS 30000000
#define CHAINS 24 /* independent ones, so that no result is waited for */
#define EACH(OP) \
    OP(0) OP(1) OP(2) OP(3) OP(4) OP(5) OP(6) OP(7) OP(8) OP(9) OP(10) OP(11) \
    OP(12) OP(13) OP(14) OP(15) OP(16) OP(17) OP(18) OP(19) OP(20) OP(21) OP(22) OP(23)
#define CLEAR(i) "vpxord %%zmm" #i ",%%zmm" #i ",%%zmm" #i "\n"
#define FLOAT32(i) "vfmadd231ps %%zmm30,%%zmm31,%%zmm" #i "\n"
#define BFLOAT16(i) "vdpbf16ps %%zmm30,%%zmm31,%%zmm" #i "\n"
#define INT8(i) "vpdpbusd %%zmm30,%%zmm31,%%zmm" #i "\n"
#define CHANGED "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10", "zmm11", "zmm12", "zmm13", \
    "zmm14", "zmm15", "zmm16", "zmm17", "zmm18", "zmm19", "zmm20", "zmm21", "zmm22", "zmm23", "zmm30", "zmm31"
#define WORK(name, OP) \
    static void *name(void *unused) { \
        long left = LOOPS; \
        __asm__ volatile(EACH(CLEAR) CLEAR(30) CLEAR(31) "1:" EACH(OP) "dec %0\njnz 1b" : "+r"(left)::CHANGED); \
        return unused; \
    }
WORK(float32, FLOAT32)
WORK(bfloat16, BFLOAT16)
WORK(int8, INT8)

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

int main(int count, char **words) {
    void *(*works[])(void *) = {float32, bfloat16, int8};
    const char *names[] = {"float32", "bfloat16", "int8"};
    const double operations[] = {32, 64, 128};
    int num_threads = count > 1 ? atoi(words[1]) : 1;
    pthread_t threads[256];
    if (num_threads < 1 || num_threads > 256) return 2;
    for (int round = 0; round < 5; round++)
        for (int kind = 0; kind < 3; kind++) {
            double started_at = seconds();
            for (int i = 0; i < num_threads; i++) pthread_create(&threads[i], 0, works[kind], 0);
            for (int i = 0; i < num_threads; i++) pthread_join(threads[i], 0);
            double rate = num_threads * 1.0 * LOOPS * CHAINS * operations[kind] / (seconds() - started_at) / 1e9;
            printf("%s %.0f%s", names[kind], rate, kind == 2 ? "\n" : "  ");
        }
    return 0;
}
