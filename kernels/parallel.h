// A loop on several threads of XLA's pool.
#ifndef JAXRNN_PARALLEL_H_
#define JAXRNN_PARALLEL_H_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "problem.h"

namespace jaxrnn {

// Tasks are claimed, one after the other, by whoever is free. The calling thread claims
// too, and waits only for tasks that have begun. So it never waits for a thread of the
// pool that is itself waiting, and the pool may be busy or small.
class Claims {
 public:
  Claims(Size count, const std::function<void(Size)>& task) : count_(count), task_(&task) {}

  void work() {
    for (Size n = next_++; n < count_; n = next_++) {
      (*task_)(n);
      // The last one wakes the caller, which may then drop `task_`: no claim is left.
      if (++done_ == count_) {
        std::lock_guard<std::mutex> lock(mutex_);
        finished_.notify_all();
      }
    }
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    finished_.wait(lock, [&] { return done_ == count_; });
  }

 private:
  const Size count_;
  const std::function<void(Size)>* const task_;
  std::atomic<Size> next_{0}, done_{0};
  std::mutex mutex_;
  std::condition_variable finished_;
};

// Gathers threads that run at the same time. Whoever comes before the door is closed is a
// member; whoever comes later goes away. So nothing ever waits for a busy pool.
class Door {
 public:
  explicit Door(const std::function<void(Size, Size)>& task) : task_(&task) {}

  // What a helper does.
  void enter() {
    Size member = 0;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      if (members_ != 0) return;
      member = ++arrived_;
      changed_.notify_all();
      changed_.wait(lock, [&] { return members_ != 0; });
    }
    (*task_)(member, members_);
    std::lock_guard<std::mutex> lock(mutex_);
    if (--working_ == 0) changed_.notify_all();
  }

  // What the calling thread does.
  void lead(Size helpers) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait_for(lock, std::chrono::microseconds(200),
                        [&] { return arrived_ == helpers; });
      working_ = arrived_;
      members_ = arrived_ + 1;
      changed_.notify_all();
    }
    (*task_)(0, members_);
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return working_ == 0; });
  }

 private:
  const std::function<void(Size, Size)>* const task_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Size arrived_ = 0, members_ = 0, working_ = 0;
};

template <class Pool>
class PoolThreads : public Threads {
 public:
  explicit PoolThreads(Pool& pool) : pool_(pool) {}

  Size count() const override {
    return Size(std::max<std::int64_t>(pool_.num_threads(), 1));
  }

  void for_each(Size count, const std::function<void(Size)>& task) override {
    if (count == 0) return;
    const Size helpers = std::min(this->count(), count) - 1;
    if (helpers == 0) {
      for (Size n = 0; n < count; n++) task(n);
      return;
    }
    auto claims = std::make_shared<Claims>(count, task);
    for (Size n = 0; n < helpers; n++) {
      pool_.Schedule([claims] { claims->work(); });
    }
    claims->work();
    claims->wait();
  }

  void together(Size most, const std::function<void(Size, Size)>& task) override {
    const Size helpers = std::min(this->count(), most) - 1;
    if (helpers == 0) return task(0, 1);
    auto door = std::make_shared<Door>(task);
    for (Size n = 0; n < helpers; n++) {
      pool_.Schedule([door] { door->enter(); });
    }
    door->lead(helpers);
  }

 private:
  Pool& pool_;
};

}  // namespace jaxrnn

#endif  // JAXRNN_PARALLEL_H_
