/* Runs CUDA kernels on the CPU, with their grid, blocks, warps, barriers and shuffles.

   The threads of a block take turns on one thread of the CPU, and the blocks follow one another. A thread runs until it
   waits for the others: in __syncthreads for its block, in a shuffle for its warp. `launch` fails if some threads wait
   for what others never reach.

   Under -fsanitize=thread each is a thread of its own, in order with the others only at these points: two that access
   the same memory between them are a race. Races between blocks are not found. */

#include <cmath>
#include <cstdio>
#include <functional>
#include <ucontext.h>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(threads)
#define __shared__ static

namespace on_cpu {

enum { WARP = 32, STACK = 1 << 16 };
enum State { READY, IN_SHUFFLE, AT_BARRIER, DONE };
struct Index {
    unsigned x;
};

ucontext_t scheduler, threads[BLOCK];
State states[BLOCK];
char stacks[BLOCK][STACK];
char shuffled[BLOCK][8];   /* what each thread passes in a shuffle */
/* Places where threads meet, of which -fsanitize=thread needs the addresses. They alternate: at one place, a thread that
   leaves would seem to come after what a faster one has done until they meet again. */
char start, end, barriers[2], warps[BLOCK][2];
unsigned met[BLOCK]; /* how often each thread has been at a barrier */
Index block, thread, grid;
std::function<void()> kernel;

#ifdef __SANITIZE_THREAD__
extern "C" void *__tsan_create_fiber(unsigned), *__tsan_get_current_fiber();
extern "C" void __tsan_switch_to_fiber(void *, unsigned), __tsan_acquire(void *), __tsan_release(void *);
void *fibers[BLOCK + 1]; /* the last is the scheduler's */
#define UNSEEN __attribute__((no_sanitize_thread, noinline))
#define SWITCH_TO(t) __tsan_switch_to_fiber(fibers[t], 1 /* which orders nothing */)
#else
#define UNSEEN
#define SWITCH_TO(t)
#define __tsan_acquire(address) (void)(address)
#define __tsan_release(address) (void)(address)
#endif

UNSEEN Index this_thread() { return thread; }

UNSEEN void back_to_scheduler(State why) {
    states[thread.x] = why;
    SWITCH_TO(BLOCK);
    swapcontext(&threads[thread.x], &scheduler);
}

void wait(State what, void *with) {
    __tsan_release(with);
    back_to_scheduler(what);
    __tsan_acquire(with);
}

void whole_thread() {
    __tsan_acquire(&start);
    kernel();
    __tsan_release(&end);
    back_to_scheduler(DONE);
}

UNSEEN void run_until_it_waits(unsigned t) {
    thread.x = t;
    SWITCH_TO(t);
    swapcontext(&scheduler, &threads[t]);
}

/* Whether all of `count` threads from `first` on are in this state. */
UNSEEN bool all_are(State state, unsigned first, unsigned count) {
    for (unsigned t = first; t < first + count; ++t)
        if (states[t] != state) return false;
    return true;
}

UNSEEN void release(unsigned first, unsigned count) {
    for (unsigned t = first; t < first + count; ++t) states[t] = READY;
}

__attribute__((noinline)) void prepare(unsigned t) {
    getcontext(&threads[t]);
    threads[t].uc_stack.ss_sp = stacks[t];
    threads[t].uc_stack.ss_size = STACK;
    makecontext(&threads[t], whole_thread, 0);
    states[t] = READY, met[t] = 0;
}

UNSEEN bool run_block() {
    for (unsigned t = 0; t < BLOCK; ++t) prepare(t);
    __tsan_release(&start);
    while (!all_are(DONE, 0, BLOCK)) {
        bool goes_on = false;
        for (unsigned t = 0; t < BLOCK; ++t)
            if (states[t] == READY) run_until_it_waits(t), goes_on = true;
        for (unsigned t = 0; t < BLOCK; t += WARP)
            if (all_are(IN_SHUFFLE, t, WARP)) release(t, WARP);
        if (all_are(AT_BARRIER, 0, BLOCK)) release(0, BLOCK);
        if (!goes_on) return false;
    }
    __tsan_acquire(&end);
    return true;
}

template <class T> T shuffle(T x, unsigned from) {
    static_assert(sizeof(T) <= sizeof(shuffled[0]), "too large");
    char *warp = warps[this_thread().x / WARP];
    *(T *)shuffled[this_thread().x] = x;
    wait(IN_SHUFFLE, &warp[0]);
    x = *(T *)shuffled[this_thread().x / WARP * WARP + from];
    wait(IN_SHUFFLE, &warp[1]); /* before the next shuffle writes */
    return x;
}

template <class... Types, size_t... I>
bool launch_with(void (*function)(Types...), unsigned blocks, void **values, std::index_sequence<I...>) {
    kernel = [=] { function(*(Types *)values[I]...); };
    grid.x = blocks;
#ifdef __SANITIZE_THREAD__
    fibers[BLOCK] = __tsan_get_current_fiber();
    for (unsigned t = 0; t < BLOCK; ++t)
        if (!fibers[t]) fibers[t] = __tsan_create_fiber(0);
#endif
    for (block.x = 0; block.x < blocks; ++block.x)
        if (!run_block()) return false;
    return true;
}

/* Run a kernel with a pointer to each argument, as cuLaunchKernel does. False: its threads wait for one another forever. */
template <class... Types> bool launch(void (*function)(Types...), unsigned blocks, void **values) {
    return launch_with(function, blocks, values, std::index_sequence_for<Types...>());
}

} // namespace on_cpu

#define threadIdx on_cpu::this_thread()
#define blockIdx on_cpu::block
#define gridDim on_cpu::grid
#define blockDim on_cpu::Index{BLOCK}

inline void __syncthreads() {
    on_cpu::wait(on_cpu::AT_BARRIER, &on_cpu::barriers[on_cpu::met[threadIdx.x]++ % 2]);
}

template <class T> T __shfl_down_sync(unsigned, T x, unsigned distance) {
    const unsigned lane = threadIdx.x % on_cpu::WARP, from = lane + distance;
    return on_cpu::shuffle(x, from < on_cpu::WARP ? from : lane);
}

template <class T> T __shfl_xor_sync(unsigned, T x, unsigned distance) {
    return on_cpu::shuffle(x, threadIdx.x % on_cpu::WARP ^ distance);
}
