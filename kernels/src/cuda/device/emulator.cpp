// Runs the blocks of a launch one after another, the threads of a block as fibers in turn, and checks what they touch.
//
// Every load and store of a kernel calls one of the `__tsan_` functions below. Shared memory keeps for each byte who wrote
// and who read it last: two threads that touch a byte, one of them writing, need a barrier between them. Bytes that a block
// writes to global memory must not be touched by another block of the launch. Copies under way land when they are waited for.

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;
struct Dim3 {
    u32 x, y, z;
};
#define EXPORT extern "C" __attribute__((visibility("default")))

// What the host hands over: allocations of the device, sorted by address.
struct Region {
    u64 base, bytes;
};
struct Launch {
    Dim3 grid, block;
    u64 shared_bytes;
    const Region* regions;
    u64 region_count;
    void (*kernel)(void**);
    void** arguments;
    char* message;
    u64 message_bytes;
};

namespace {

const u64 STACK_BYTES = 256 << 10;
const u32 NOBODY = 0xffffffffu, SEVERAL = 0xfffffffeu;

enum State { READY, AT_BARRIER, AT_WARP, DONE };

struct Copy {
    u8* shared;
    const u8* global;
    u32 bytes, valid, group;
};

struct Fiber {
    u8* stack;
    void* context;
    State state;
    Dim3 thread;
    u32 index;
    std::vector<Copy> copies;
    u32 group, rounds;
};

// What the lanes of a warp bring to a rendezvous, and what they take from it.
struct Rendezvous {
    u32 kind, arrived, expected, round;
    u64 in[32][8];
    u64 out[2][32][8];
    u32 memory_epoch;
};

struct Byte {
    u32 writer, writer_epoch, writer_warp_epoch;
    u32 reader, reader_epoch, reader_warp_epoch, reader_warp;
    u8 written, pending;
};

struct Shadow {
    std::vector<u32> writer, reader;
};

struct Runtime {
    const Launch* launch;
    std::vector<Fiber> fibers;
    std::vector<Rendezvous> warps;
    std::vector<u8> shared_memory;
    std::vector<Byte> bytes;
    std::vector<Shadow> shadows;
    u8* shared;
    Dim3 block;
    u32 block_index, epoch, current, waiting;
    void* main_context;
    bool failed, running;
};

thread_local Runtime runtime;

#if defined(__x86_64__)
extern "C" void emulator_switch(void** save, void* load);
asm(".text\n.globl emulator_switch\n.hidden emulator_switch\nemulator_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");
#elif defined(__aarch64__)
extern "C" void emulator_switch(void** save, void* load);
asm(".text\n.globl emulator_switch\n.hidden emulator_switch\nemulator_switch:\n"
    "sub sp, sp, #160\nstp x19, x20, [sp]\nstp x21, x22, [sp, #16]\nstp x23, x24, [sp, #32]\nstp x25, x26, [sp, #48]\n"
    "stp x27, x28, [sp, #64]\nstp x29, x30, [sp, #80]\nstp d8, d9, [sp, #96]\nstp d10, d11, [sp, #112]\nstp d12, d13, [sp, #128]\n"
    "stp d14, d15, [sp, #144]\nmov x9, sp\nstr x9, [x0]\nmov sp, x1\n"
    "ldp x19, x20, [sp]\nldp x21, x22, [sp, #16]\nldp x23, x24, [sp, #32]\nldp x25, x26, [sp, #48]\nldp x27, x28, [sp, #64]\n"
    "ldp x29, x30, [sp, #80]\nldp d8, d9, [sp, #96]\nldp d10, d11, [sp, #112]\nldp d12, d13, [sp, #128]\nldp d14, d15, [sp, #144]\n"
    "add sp, sp, #160\nret\n");
#else
#error "the emulator knows x86-64 and aarch64"
#endif

[[noreturn]] void leave() {
    void* unused;
    emulator_switch(&unused, runtime.main_context);
    abort();
}

// Ends the launch with a message; the fibers are left as they are.
[[noreturn]] void fail(const char* format, ...) {
    const Fiber& fiber = runtime.fibers[runtime.current];
    const Dim3 b = runtime.block, t = fiber.thread;
    char* message = runtime.launch->message;
    const size_t size = runtime.launch->message_bytes;
    size_t used = snprintf(message, size, "block (%u, %u, %u), thread (%u, %u, %u): ", b.x, b.y, b.z, t.x, t.y, t.z);
    va_list arguments;
    va_start(arguments, format);
    if (used < size) vsnprintf(message + used, size - used, format, arguments);
    va_end(arguments);
    runtime.failed = true;
    leave();
}

void yield() {
    Fiber& fiber = runtime.fibers[runtime.current];
    emulator_switch(&fiber.context, runtime.main_context);
}

extern "C" void emulator_begin() {
    runtime.launch->kernel(runtime.launch->arguments);
    Fiber& fiber = runtime.fibers[runtime.current];
    for (const Copy& copy : fiber.copies) {
        if (copy.bytes) fail("the thread ends while a copy is under way");
    }
    fiber.state = DONE;
    leave();
}

void start(Fiber& fiber) {
    u64* top = (u64*)(fiber.stack + STACK_BYTES);
#if defined(__x86_64__)
    // As if it had been called: the stack is aligned to 16 before the return address.
    *--top = 0;
    *--top = (u64)(void*)emulator_begin;
    top -= 6;
    memset(top, 0, 48);
#else
    top -= 20;
    memset(top, 0, 160);
    top[11] = (u64)(void*)emulator_begin;
#endif
    fiber.context = top;
}

u32 warp_of(u32 thread) { return thread >> 5; }

// Whether what `other` did is before what the current thread does now.
bool is_ordered(u32 other, u32 epoch, u32 warp, u32 warp_epoch) {
    if (other == NOBODY || other == runtime.current || epoch != runtime.epoch) return true;
    return warp == warp_of(runtime.current) && warp_epoch != runtime.warps[warp].memory_epoch;
}

void check_shared(u64 offset, u32 size, bool writes) {
    const u32 me = runtime.current, warp = warp_of(me), warp_epoch = runtime.warps[warp].memory_epoch;
    for (u64 at = offset; at < offset + size; at++) {
        Byte& byte = runtime.bytes[at];
        if (byte.pending) fail("shared byte %llu is touched while a copy to it is under way", at);
        if (!writes && !byte.written) fail("shared byte %llu is read before anything was written to it", at);
        const u32 writer = byte.writer;
        if (writer != NOBODY && !is_ordered(writer, byte.writer_epoch, warp_of(writer), byte.writer_warp_epoch)) {
            fail("shared byte %llu is %s, and thread %u wrote it since the last barrier", at, writes ? "written" : "read", writer);
        }
        if (writes) {
            const bool several = byte.reader == SEVERAL;
            if (byte.reader != NOBODY && byte.reader != me && byte.reader_epoch == runtime.epoch &&
                !(byte.reader_warp == warp && byte.reader_warp_epoch != warp_epoch)) {
                if (several) fail("shared byte %llu is written, and several threads read it since the last barrier", at);
                fail("shared byte %llu is written, and thread %u read it since the last barrier", at, byte.reader);
            }
            byte.writer = me;
            byte.writer_epoch = runtime.epoch;
            byte.writer_warp_epoch = warp_epoch;
            byte.written = 1;
            byte.reader = NOBODY;
        } else {
            const bool fresh = byte.reader == NOBODY || byte.reader_epoch != runtime.epoch ||
                               (byte.reader_warp == warp && byte.reader_warp_epoch != warp_epoch);
            if (fresh) {
                byte.reader = me;
                byte.reader_warp = warp;
            } else if (byte.reader != me) {
                byte.reader = SEVERAL;
                if (byte.reader_warp != warp) byte.reader_warp = NOBODY;
            }
            byte.reader_epoch = runtime.epoch;
            byte.reader_warp_epoch = warp_epoch;
        }
    }
}

void check_global(u64 index, u64 offset, u32 size, bool writes) {
    Shadow& shadow = runtime.shadows[index];
    const u32 me = runtime.block_index + 1;
    const u64 bytes = runtime.launch->regions[index].bytes;
    std::vector<u32>& own = writes ? shadow.writer : shadow.reader;
    if (own.empty()) own.assign(bytes, 0);
    const char* word = writes ? "written" : "read";
    for (u64 at = offset; at < offset + size; at++) {
        const u32 writer = shadow.writer.empty() ? 0 : shadow.writer[at];
        if (writer != 0 && writer != me) fail("byte %llu of an array is %s, and block %u of this launch wrote it", at, word, writer - 1);
        // Blocks run one after another here, and in any order or at once on a device.
        const u32 reader = !writes || shadow.reader.empty() ? 0 : shadow.reader[at];
        if (reader == SEVERAL) fail("byte %llu of an array is written, and several blocks of this launch read it", at);
        if (reader != 0 && reader != me) fail("byte %llu of an array is written, and block %u of this launch read it", at, reader - 1);
        if (writes) shadow.writer[at] = me;
        else shadow.reader[at] = shadow.reader[at] == 0 || shadow.reader[at] == me ? me : SEVERAL;
    }
}

void access(const void* pointer, u32 size, bool writes, bool aligned) {
    if (!runtime.running) return;
    const u64 address = (u64)pointer;
    const Fiber& fiber = runtime.fibers[runtime.current];
    if (address - (u64)fiber.stack < STACK_BYTES) return;
    if (aligned && address % size != 0) fail("an access of %u bytes is not aligned", size);
    const u64 offset = address - (u64)runtime.shared;
    if (offset < runtime.launch->shared_bytes && offset + size <= runtime.launch->shared_bytes) {
        return check_shared(offset, size, writes);
    }
    u64 low = 0, high = runtime.launch->region_count;
    while (low < high) {
        const u64 middle = (low + high) / 2;
        if (runtime.launch->regions[middle].base <= address) low = middle + 1;
        else high = middle;
    }
    const char* word = writes ? "written" : "read";
    if (low > 0) {
        const Region& region = runtime.launch->regions[low - 1];
        const u64 inside = address - region.base;
        if (inside + size <= region.bytes) return check_global(low - 1, inside, size, writes);
        if (inside < region.bytes + 65536) {
            fail("%u bytes at %llu of an array of %llu bytes are %s: out of bounds", size, inside, region.bytes, word);
        }
    }
    const long long from_shared = (long long)offset;
    if (from_shared > -65536 && from_shared < 65536 + (long long)runtime.launch->shared_bytes) {
        fail("%u bytes at %lld of %llu bytes of shared memory are %s: out of bounds", size, from_shared, runtime.launch->shared_bytes, word);
    }
    // Tables of the kernel's own lie in its image and may be read.
    static char anchor;
    const long long from_image = (long long)address - (long long)(u64)&anchor;
    if (!writes && from_image > -(16 << 20) && from_image < (16 << 20)) return;
    fail("%u bytes at address 0x%llx, of no array, are %s: out of bounds", size, address, word);
}

// Brings 8 words to the warp's rendezvous; the last to arrive finishes it with `finish`, all then take their 8 words.
template <class Finish> void rendezvous(u32 kind, const u64* in, u64* out, Finish finish) {
    Fiber& fiber = runtime.fibers[runtime.current];
    Rendezvous& warp = runtime.warps[warp_of(fiber.index)];
    const u32 lane = fiber.index & 31, round = warp.round;
    if (warp.arrived == 0) warp.kind = kind;
    if (warp.kind != kind) fail("the lanes of a warp do different things together");
    memcpy(warp.in[lane], in, 64);
    warp.arrived |= 1u << lane;
    if (warp.arrived == warp.expected) {
        finish(warp.in, warp.out[round & 1]);
        warp.arrived = 0;
        warp.round++;
    } else {
        fiber.state = AT_WARP;
        while (warp.round == round) yield();
        fiber.state = READY;
    }
    memcpy(out, warp.out[round & 1][lane], 64);
}

float as_float(u64 bits) {
    const u32 low = (u32)bits;
    float x;
    memcpy(&x, &low, 4);
    return x;
}
u64 as_bits(float x) {
    u32 bits;
    memcpy(&bits, &x, 4);
    return bits;
}
float of_bf16(u32 bits) { return as_float((u64)(bits & 0xffff) << 16); }
float half_of(u32 pair, u32 which) { return of_bf16(which ? pair >> 16 : pair); }

// Matrix units cut off what a sum has beyond the bits of a float (Fasi et al. 2021; Ootomo and Yokota 2022).
float cut(double sum) {
    const float nearest = (float)sum;
    return __builtin_fabs((double)nearest) > __builtin_fabs(sum) ? __builtin_nextafterf(nearest, 0.0f) : nearest;
}

void finish_multiply_bf16(u64 (*in)[8], u64 (*out)[8]) {
    static thread_local float a[16][16], b[16][8];
    for (u32 lane = 0; lane < 32; lane++) {
        const u32 r = lane / 4, c = 2 * (lane % 4);
        for (u32 i = 0; i < 2; i++) {
            a[r][c + i] = half_of(in[lane][0], i), a[r + 8][c + i] = half_of(in[lane][0] >> 32, i);
            a[r][c + 8 + i] = half_of(in[lane][1], i), a[r + 8][c + 8 + i] = half_of(in[lane][1] >> 32, i);
            b[c + i][r] = half_of(in[lane][2], i), b[c + 8 + i][r] = half_of(in[lane][2] >> 32, i);
        }
    }
    for (u32 lane = 0; lane < 32; lane++) {
        for (u32 i = 0; i < 4; i++) {
            const u32 r = lane / 4 + (i >= 2 ? 8 : 0), c = 2 * (lane % 4) + (i & 1);
            double sum = as_float(i & 1 ? in[lane][3 + i / 2] >> 32 : in[lane][3 + i / 2]);
            for (u32 k = 0; k < 16; k++) sum += (double)a[r][k] * (double)b[k][c];
            out[lane][i] = as_bits(cut(sum));
        }
    }
}

void finish_multiply_tf32(u64 (*in)[8], u64 (*out)[8]) {
    static thread_local float a[16][8], b[8][8];
    // The product reads 10 bits of fraction and drops the others.
    auto value = [](u64 bits) { return as_float(bits & 0xffffe000u); };
    for (u32 lane = 0; lane < 32; lane++) {
        const u32 r = lane / 4, c = lane % 4;
        a[r][c] = value(in[lane][0]), a[r + 8][c] = value(in[lane][0] >> 32);
        a[r][c + 4] = value(in[lane][1]), a[r + 8][c + 4] = value(in[lane][1] >> 32);
        b[c][r] = value(in[lane][2]), b[c + 4][r] = value(in[lane][2] >> 32);
    }
    for (u32 lane = 0; lane < 32; lane++) {
        for (u32 i = 0; i < 4; i++) {
            const u32 r = lane / 4 + (i >= 2 ? 8 : 0), c = 2 * (lane % 4) + (i & 1);
            double sum = as_float(i & 1 ? in[lane][3 + i / 2] >> 32 : in[lane][3 + i / 2]);
            for (u32 k = 0; k < 8; k++) sum += (double)a[r][k] * (double)b[k][c];
            out[lane][i] = as_bits(cut(sum));
        }
    }
}

void multiply(u32 kind, float* d, const u32* a, u32 b0, u32 b1, void (*finish)(u64 (*)[8], u64 (*)[8])) {
    u64 in[8] = {a[0] | (u64)a[1] << 32, a[2] | (u64)a[3] << 32, b0 | (u64)b1 << 32,
                 as_bits(d[0]) | as_bits(d[1]) << 32, as_bits(d[2]) | as_bits(d[3]) << 32};
    u64 out[8];
    rendezvous(kind, in, out, finish);
    for (u32 i = 0; i < 4; i++) d[i] = as_float(out[i]);
}

void land(const Copy& copy) {
    const u64 offset = copy.shared - runtime.shared;
    for (u32 at = 0; at < copy.bytes; at++) runtime.bytes[offset + at].pending = 0;
    check_shared(offset, copy.bytes, true);
    if (copy.valid) {
        access(copy.global, copy.bytes, false, true);
        memcpy(copy.shared, copy.global, copy.bytes);
    } else {
        memset(copy.shared, 0, copy.bytes);
    }
}

void prepare_block(u32 threads) {
    const u64 bytes = runtime.launch->shared_bytes;
    memset(runtime.shared, 0xff, bytes);
    for (Byte& byte : runtime.bytes) byte = Byte{NOBODY, 0, 0, NOBODY, 0, 0, NOBODY, 0, 0};
    runtime.epoch = 1;
    const Dim3 extent = runtime.launch->block;
    for (u32 index = 0; index < threads; index++) {
        Fiber& fiber = runtime.fibers[index];
        fiber.state = READY;
        fiber.index = index;
        fiber.thread = Dim3{index % extent.x, index / extent.x % extent.y, index / extent.x / extent.y};
        fiber.copies.clear();
        fiber.group = 0;
        start(fiber);
    }
    for (u32 warp = 0; warp < runtime.warps.size(); warp++) {
        Rendezvous& meeting = runtime.warps[warp];
        const u32 lanes = threads - 32 * warp < 32 ? threads - 32 * warp : 32;
        meeting.kind = meeting.arrived = meeting.round = meeting.memory_epoch = 0;
        meeting.expected = lanes == 32 ? 0xffffffffu : (1u << lanes) - 1;
    }
}

// Runs every thread until it ends; a turn in which nobody moves is a deadlock.
void run_block(u32 threads) {
    prepare_block(threads);
    u32 done = 0;
    while (done < threads) {
        u32 at_barrier = 0;
        bool moved = false;
        done = 0;
        for (u32 index = 0; index < threads && !runtime.failed; index++) {
            Fiber& fiber = runtime.fibers[index];
            if (fiber.state == AT_WARP) {
                Rendezvous& warp = runtime.warps[warp_of(index)];
                if (warp.arrived & (1u << (index & 31))) continue;
            }
            if (fiber.state == READY || fiber.state == AT_WARP) {
                runtime.current = index;
                emulator_switch(&runtime.main_context, fiber.context);
                moved = true;
            }
        }
        if (runtime.failed) return;
        for (u32 index = 0; index < threads; index++) {
            at_barrier += runtime.fibers[index].state == AT_BARRIER;
            done += runtime.fibers[index].state == DONE;
        }
        if (at_barrier > 0 && at_barrier + done == threads) {
            if (done > 0) {
                for (u32 index = 0; index < threads; index++) {
                    if (runtime.fibers[index].state == AT_BARRIER) runtime.current = index;
                }
                snprintf(runtime.launch->message, runtime.launch->message_bytes,
                         "block (%u, %u, %u): %u threads wait at a barrier and %u have ended", runtime.block.x, runtime.block.y,
                         runtime.block.z, at_barrier, done);
                runtime.failed = true;
                return;
            }
            runtime.epoch++;
            for (u32 index = 0; index < threads; index++) runtime.fibers[index].state = READY;
        } else if (!moved && done < threads) {
            snprintf(runtime.launch->message, runtime.launch->message_bytes,
                     "block (%u, %u, %u): %u threads wait at a barrier, %u have ended, the others wait for lanes of their warp that do not come",
                     runtime.block.x, runtime.block.y, runtime.block.z, at_barrier, done);
            runtime.failed = true;
            return;
        }
    }
}

void make_room(u32 threads) {
    while (runtime.fibers.size() < threads) {
        void* stack = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stack == MAP_FAILED) abort();
        runtime.fibers.push_back(Fiber());
        runtime.fibers.back().stack = (u8*)stack;
    }
    runtime.warps.resize((threads + 31) / 32);
    // Room on both sides, so that what is out of bounds touches nothing else.
    runtime.shared_memory.resize(runtime.launch->shared_bytes + 256);
    runtime.shared = (u8*)(((u64)runtime.shared_memory.data() + 127) / 128 * 128);
    runtime.bytes.resize(runtime.launch->shared_bytes);
    runtime.shadows.clear();
    runtime.shadows.resize(runtime.launch->region_count);
}

}  // namespace

// Runs a launch; 0 if all went well, else the message says what was wrong.
EXPORT int emulator_run(const Launch* launch) {
    runtime.launch = launch;
    runtime.failed = false;
    const Dim3 grid = launch->grid, block = launch->block;
    const u32 threads = block.x * block.y * block.z;
    make_room(threads);
    runtime.running = true;
    u32 index = 0;
    for (u32 z = 0; z < grid.z && !runtime.failed; z++) {
        for (u32 y = 0; y < grid.y && !runtime.failed; y++) {
            for (u32 x = 0; x < grid.x && !runtime.failed; x++) {
                runtime.block = Dim3{x, y, z};
                runtime.block_index = index++;
                run_block(threads);
            }
        }
    }
    runtime.running = false;
    return runtime.failed ? 1 : 0;
}

extern "C" {
Dim3 emulator_thread() { return runtime.fibers[runtime.current].thread; }
Dim3 emulator_block() { return runtime.block; }
Dim3 emulator_block_extent() { return runtime.launch->block; }
Dim3 emulator_grid_extent() { return runtime.launch->grid; }
u8* emulator_shared() { return runtime.shared; }

void emulator_barrier() {
    Fiber& fiber = runtime.fibers[runtime.current];
    fiber.state = AT_BARRIER;
    yield();
}

void emulator_warp_barrier() {
    u64 words[8] = {};
    Rendezvous& warp = runtime.warps[warp_of(runtime.current)];
    rendezvous(1, words, words, [&warp](u64 (*)[8], u64 (*)[8]) { warp.memory_epoch++; });
}

u64 emulator_shuffle(u64 value, u32 source) {
    u64 in[8] = {value, source}, out[8];
    const u32 expected = runtime.warps[warp_of(runtime.current)].expected;
    rendezvous(2, in, out, [expected](u64 (*in)[8], u64 (*out)[8]) {
        for (u32 lane = 0; lane < 32; lane++) {
            if (expected >> lane & 1) out[lane][0] = in[expected >> in[lane][1] & 1 ? in[lane][1] : lane][0];
        }
    });
    return out[0];
}

u32 emulator_ballot(u32 predicate) {
    u64 in[8] = {predicate}, out[8];
    const u32 expected = runtime.warps[warp_of(runtime.current)].expected;
    rendezvous(3, in, out, [expected](u64 (*in)[8], u64 (*out)[8]) {
        u64 votes = 0;
        for (u32 lane = 0; lane < 32; lane++) votes |= (u64)((expected >> lane & 1) && in[lane][0]) << lane;
        for (u32 lane = 0; lane < 32; lane++) out[lane][0] = votes;
    });
    return (u32)out[0];
}

void emulator_multiply_bf16(float* d, const u32* a, u32 b0, u32 b1) { multiply(4, d, a, b0, b1, finish_multiply_bf16); }
void emulator_multiply_tf32(float* d, const u32* a, u32 b0, u32 b1) { multiply(5, d, a, b0, b1, finish_multiply_tf32); }

void emulator_load_matrices(u32* r, const void* row, u32 transposed) {
    const u64 offset = (u64)row - (u64)runtime.shared;
    if (offset >= runtime.launch->shared_bytes) fail("load_matrices reads an address that is not in shared memory");
    access(row, 16, false, true);
    u64 in[8], out[8];
    memcpy(in, row, 16);
    rendezvous(transposed ? 7 : 6, in, out, [transposed](u64 (*in)[8], u64 (*out)[8]) {
        static thread_local u16 values[4][8][8];
        for (u32 lane = 0; lane < 32; lane++) memcpy(values[lane / 8][lane % 8], in[lane], 16);
        for (u32 lane = 0; lane < 32; lane++) {
            const u32 r = lane / 4, c = 2 * (lane % 4);
            for (u32 i = 0; i < 4; i++) {
                const u16 low = transposed ? values[i][c][r] : values[i][r][c];
                const u16 high = transposed ? values[i][c + 1][r] : values[i][r][c + 1];
                out[lane][i] = low | (u32)high << 16;
            }
        }
    });
    for (u32 i = 0; i < 4; i++) r[i] = (u32)out[i];
}

void emulator_copy_async(void* shared, const void* global, u32 bytes, u32 valid) {
    Fiber& fiber = runtime.fibers[runtime.current];
    const u64 offset = (u64)shared - (u64)runtime.shared;
    if (offset >= runtime.launch->shared_bytes || offset + bytes > runtime.launch->shared_bytes) {
        fail("a copy of %u bytes goes to an address that is not in shared memory: out of bounds", bytes);
    }
    if ((u64)shared % bytes != 0 || (valid && (u64)global % bytes != 0)) fail("a copy of %u bytes is not aligned", bytes);
    if (valid) access(global, bytes, false, true);
    check_shared(offset, bytes, true);
    for (u32 at = 0; at < bytes; at++) runtime.bytes[offset + at].pending = 1;
    fiber.copies.push_back(Copy{(u8*)shared, (const u8*)global, bytes, valid, fiber.group});
}

void emulator_copy_async_commit() { runtime.fibers[runtime.current].group++; }

void emulator_copy_async_wait(u32 groups) {
    Fiber& fiber = runtime.fibers[runtime.current];
    std::vector<Copy> left;
    for (const Copy& copy : fiber.copies) {
        if (copy.group + groups < fiber.group) land(copy);
        else left.push_back(copy);
    }
    fiber.copies.swap(left);
}

float emulator_from_f16(u16 bits) {
    const u32 exponent = bits >> 10 & 31, fraction = bits & 1023;
    float magnitude;
    if (exponent == 31) magnitude = fraction ? __builtin_nanf("") : __builtin_inff();
    else if (exponent == 0) magnitude = __builtin_ldexpf((float)fraction, -24);
    else magnitude = __builtin_ldexpf((float)(fraction | 1024), (int)exponent - 25);
    return bits >> 15 ? -magnitude : magnitude;
}

u16 emulator_to_f16(float x) {
    const u32 bits = (u32)as_bits(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000) return (u16)(sign | 0x7fff);
    if (rest >= 0x477ff000) return (u16)(sign | 0x7c00);
    if (rest < 0x38800000) {
        // Subnormal: rounding to a multiple of 2^-24 is rounding to an integer.
        const float scaled = __builtin_ldexpf(as_float(rest), 24);
        return (u16)(sign | (u32)__builtin_rintf(scaled));
    }
    const u32 rounded = rest + 0xfff + (rest >> 13 & 1);
    return (u16)(sign | ((rounded - 0x38000000) >> 13));
}

#define ACCESSES(SIZE) \
    void __tsan_read##SIZE(void* at) { access(at, SIZE, false, true); } \
    void __tsan_write##SIZE(void* at) { access(at, SIZE, true, true); } \
    void __tsan_unaligned_read##SIZE(void* at) { access(at, SIZE, false, false); } \
    void __tsan_unaligned_write##SIZE(void* at) { access(at, SIZE, true, false); }
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
void __tsan_read_range(void* at, u64 size) { access(at, (u32)size, false, false); }
void __tsan_write_range(void* at, u64 size) { access(at, (u32)size, true, false); }
void* __tsan_memcpy(void* to, const void* from, u64 size) {
    access(from, (u32)size, false, false);
    access(to, (u32)size, true, false);
    return memcpy(to, from, size);
}
void* __tsan_memset(void* to, int value, u64 size) {
    access(to, (u32)size, true, false);
    return memset(to, value, size);
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
}
