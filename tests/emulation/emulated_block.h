// The Block that CUDA kernels are written against, on a CPU: every thread of a block is a fiber, and a barrier switches
// to the next one. Shared memory starts as garbage and has a guard behind it; a barrier that some thread never reaches
// is an error. What this cannot show: races between barriers, memory ordering, registers and speed.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#define FASTINTERP_DEVICE inline

namespace fastinterp {

class EmulatedBlock {
 public:
  struct Barrier {
    int arrived = 0;
    uint64_t generation = 0;
  };

  EmulatedBlock(int x, int y, int blocks, int threads, int64_t shared_bytes)
      : x(x),
        y(y),
        blocks(blocks),
        threads(threads),
        shared_bytes(shared_bytes),
        fibers_(threads),
        warps_(threads / 32),
        floats(threads),
        flags(threads),
        memory_(shared_bytes + kGuard + 16, kGarbage) {
    if (threads % 32 != 0) throw std::logic_error("a block needs whole warps");
  }

  void run(const std::function<void(int)>& body) {
    body_ = &body;
    for (int t = 0; t < threads; ++t) {
      Fiber& fiber = fibers_[t];
      fiber.stack = std::make_unique_for_overwrite<char[]>(kStack);
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStack;
      makecontext(&fiber.context, reinterpret_cast<void (*)()>(&EmulatedBlock::start), 0);
    }
    running = this;
    uint64_t random = 0x9E3779B97F4A7C15u + static_cast<uint64_t>(x);
    for (int left = threads, round = 0; left > 0; ++round) {
      progressed_ = false;
      // Some warps rest for a round: a read that nothing but luck keeps before a write then comes after it.
      random = random * 6364136223846793005u + 1442695040888963407u;
      const uint64_t resting = round % 4 == 3 ? 0 : random >> 32 & random >> 16;
      for (current = 0; current < threads; ++current) {
        if (fibers_[current].done || (resting >> current / 32 % 16 & 1) != 0) continue;
        resume(fibers_[current]);
        if (failure_) std::rethrow_exception(failure_);
        if (fibers_[current].done) --left;
      }
      if (!progressed_ && resting == 0) throw std::logic_error("threads wait at a barrier that others never reach");
    }
    for (int64_t i = 0; i < kGuard; ++i)
      if (memory()[shared_bytes + i] != kGarbage) throw std::logic_error("a write behind the shared memory");
  }

  void wait(Barrier& barrier, int size) {
    const uint64_t mine = barrier.generation;
    if (++barrier.arrived == size) {
      barrier.arrived = 0;
      ++barrier.generation;
      progressed_ = true;
      return;
    }
    while (barrier.generation == mine) pause(fibers_[current]);
  }

  void wait_block() { wait(block_, threads); }
  void wait_warp() { wait(warps_[current / 32], 32); }

  char* memory() { return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(memory_.data()) + 15) / 16 * 16); }

  inline static EmulatedBlock* running = nullptr;
  int x, y, blocks, threads, current = 0;
  int64_t shared_bytes;

 private:
  struct Fiber {
    ucontext_t context;  // where it starts
    jmp_buf place;       // where it paused: jumps, unlike contexts, do not ask the kernel for the signal mask
    std::unique_ptr<char[]> stack;
    bool started = false;
    bool done = false;
  };
  static constexpr int64_t kStack = 1 << 16, kGuard = 64;
  static constexpr char kGarbage = static_cast<char>(0xCD);

  static void start() {
    EmulatedBlock& block = *running;
    try {
      (*block.body_)(block.current);
    } catch (...) {
      block.failure_ = std::current_exception();
    }
    block.fibers_[block.current].done = true;
    block.progressed_ = true;
    _longjmp(block.scheduler_, 1);
  }

  __attribute__((noinline)) void resume(Fiber& fiber) {
    if (_setjmp(scheduler_) != 0) return;
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    setcontext(&fiber.context);
  }

  __attribute__((noinline)) void pause(Fiber& fiber) {
    if (_setjmp(fiber.place) == 0) _longjmp(scheduler_, 1);
  }

  const std::function<void(int)>* body_ = nullptr;
  jmp_buf scheduler_;
  std::vector<Fiber> fibers_;
  std::vector<Barrier> warps_;
  Barrier block_;
  bool progressed_ = false;
  std::exception_ptr failure_;

 public:
  std::vector<float> floats;  // what shuffles trade
  std::vector<char> flags;    // what ballots count

 private:
  std::vector<char> memory_;
};

class Block {
 public:
  explicit Block(int thread) : thread_(thread) {}
  int thread() const { return thread_; }
  int threads() const { return all().threads; }
  int lane() const { return thread_ & 31; }
  int warp() const { return thread_ >> 5; }
  int warps() const { return threads() >> 5; }
  int x() const { return all().x; }
  int y() const { return all().y; }
  int blocks() const { return all().blocks; }
  char* memory() const { return all().memory(); }
  void sync() const { all().wait_block(); }
  void sync_warp() const { all().wait_warp(); }

  float shuffle_xor(float value, int mask) const {
    all().floats[thread_] = value;
    sync_warp();
    const float other = all().floats[thread_ ^ mask];
    sync_warp();
    return other;
  }

  uint32_t ballot(bool flag) const {
    all().flags[thread_] = flag;
    sync_warp();
    uint32_t bits = 0;
    for (int i = 0; i < 32; ++i) bits |= static_cast<uint32_t>(all().flags[(thread_ & ~31) + i]) << i;
    sync_warp();
    return bits;
  }

  int add(int* address, int value) const {
    const int old = *address;
    *address += value;
    return old;
  }
  void raise(float* address, float value) const { *address = std::max(*address, value); }

 private:
  static EmulatedBlock& all() { return *EmulatedBlock::running; }
  int thread_;
};

inline float fast_divide(float a, float b) { return a / b; }
inline float fast_rsqrt(float value) { return 1 / std::sqrt(value); }
inline int first_bit(uint32_t bits) { return bits == 0 ? -1 : __builtin_ctz(bits); }
inline int count_bits(uint32_t bits) { return __builtin_popcount(bits); }

inline int processors() { return 1; }

template <class Kernel>
void launch(int64_t x, int64_t y, int64_t threads, int64_t shared_bytes, void*,
            const typename Kernel::Arguments& arguments) {
  if (threads > Kernel::kMostThreads) throw std::logic_error("more threads than the kernel was compiled for");
  for (int64_t j = 0; j < y; ++j)
    for (int64_t i = 0; i < x; ++i)
      EmulatedBlock(static_cast<int>(i), static_cast<int>(j), static_cast<int>(x), static_cast<int>(threads),
                    shared_bytes)
          .run([&](int thread) { Kernel::run(Block(thread), arguments); });
}

}  // namespace fastinterp
