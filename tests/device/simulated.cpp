// A simulated accelerator, "sim", for tests on a machine without one.
//
// It is torch's PrivateUse1 device with streams that really run later. Copies from and to pinned memory, and copies on
// the device, are queued and take their time; device memory that is freed is poisoned and handed out again at once. So a
// missing wait, an event that nobody waited for, a buffer that is used again too early and memory that is given back too
// early all show as wrong numbers. Every other operator runs on the CPU once the current stream is drained. Device memory
// has a limit, beyond which torch's own out-of-memory error is raised.
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/as_strided_cpu_dispatch.h>
#include <ATen/ops/set_cpu_dispatch.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/extension.h>

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <thread>

namespace {

using at::Tensor;
using Lock = std::unique_lock<std::mutex>;

constexpr auto kSim = c10::DeviceType::PrivateUse1;
constexpr int kPoison = 0xC3;
constexpr size_t kAlignment = 64;
constexpr int kTimesFaster = 4;  // copies on the device, than those from and to the host

std::atomic<int> copy_microseconds{2000};
std::atomic<size_t> limit_bytes{SIZE_MAX};
std::atomic<size_t> used_bytes{0};

size_t round_up(size_t bytes) {
  return (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
}

// --- streams and events -----------------------------------------------------------------------------------------

// One stream: a thread that runs jobs in their order.
class Queue {
 public:
  Queue() { std::thread([this] { run(); }).detach(); }

  void put(std::function<void()> job) {
    {
      Lock lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    filled_.notify_one();
  }

  void drain() {
    Lock lock(mutex_);
    idle_.wait(lock, [this] { return jobs_.empty() && !busy_; });
  }

  bool empty() {
    Lock lock(mutex_);
    return jobs_.empty() && !busy_;
  }

 private:
  void run() {
    for (;;) {
      std::function<void()> job;
      {
        Lock lock(mutex_);
        filled_.wait(lock, [this] { return !jobs_.empty(); });
        job = std::move(jobs_.front());
        jobs_.pop_front();
        busy_ = true;
      }
      job();
      {
        Lock lock(mutex_);
        busy_ = false;
      }
      idle_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable filled_, idle_;
  std::deque<std::function<void()>> jobs_;
  bool busy_ = false;
};

thread_local c10::StreamId current = 0;
std::atomic<c10::StreamId> next_stream{1};

Queue& queue(c10::StreamId id) {
  static std::mutex mutex;
  static std::map<c10::StreamId, Queue*> queues;  // never deleted: their threads run until the process ends
  Lock lock(mutex);
  auto& found = queues[id];
  if (!found) found = new Queue;
  return *found;
}

struct Event {
  std::mutex mutex;
  std::condition_variable reached;
  long recorded = 0, done = 0;

  long record() {
    Lock lock(mutex);
    return ++recorded;
  }

  long latest() {
    Lock lock(mutex);
    return recorded;
  }

  void reach(long number) {
    {
      Lock lock(mutex);
      done = number;
    }
    reached.notify_all();
  }

  void wait(long number) {
    Lock lock(mutex);
    reached.wait(lock, [&] { return done >= number; });
  }
};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static c10::Device device() { return {kSim, 0}; }
  static c10::Stream stream(c10::StreamId id) { return c10::Stream(c10::Stream::UNSAFE, device(), id); }

  c10::DeviceType type() const override { return kSim; }
  c10::Device exchangeDevice(c10::Device) const override { return device(); }
  c10::Device getDevice() const override { return device(); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }

  c10::Stream getStream(c10::Device) const override { return stream(current); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(0); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(next_stream++); }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override { return stream(next_stream++); }
  c10::Stream exchangeStream(c10::Stream next) const override {
    auto before = stream(current);
    current = next.id();
    return before;
  }
  bool queryStream(const c10::Stream& one) const override { return queue(one.id()).empty(); }
  void synchronizeStream(const c10::Stream& one) const override { queue(one.id()).drain(); }
  void synchronizeDevice(const c10::DeviceIndex) const override {
    for (c10::StreamId id = 0; id < next_stream; id++) queue(id).drain();
  }

  void record(void** place, const c10::Stream& one, const c10::DeviceIndex, const c10::EventFlag) const override {
    if (!*place) *place = new Event;  // never deleted: a queue may still refer to it
    auto* event = static_cast<Event*>(*place);
    long number = event->record();
    queue(one.id()).put([event, number] { event->reach(number); });
  }
  void block(void* place, const c10::Stream& one) const override {
    if (!place) return;
    auto* event = static_cast<Event*>(place);
    long number = event->latest();
    queue(one.id()).put([event, number] { event->wait(number); });
  }
  bool queryEvent(void* place) const override {
    if (!place) return true;
    auto* event = static_cast<Event*>(place);
    Lock lock(event->mutex);
    return event->done >= event->recorded;
  }
  void synchronizeEvent(void* place) const override {
    if (!place) return;
    auto* event = static_cast<Event*>(place);
    event->wait(event->latest());
  }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  void recordDataPtrOnStream(const c10::DataPtr& pointer, const c10::Stream& one) const override;
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

// --- memory -----------------------------------------------------------------------------------------------------

struct Allocation {
  size_t bytes;
  c10::StreamId owner;
  std::set<c10::StreamId> users;
};

std::mutex pool_mutex;
std::map<void*, Allocation> live;
std::multimap<std::pair<c10::StreamId, size_t>, void*> pool;

// Poison memory in the order of its own stream, and offer it to that stream; the caller holds the lock of the pool.
void give_back(void* memory, const Allocation& allocation) {
  queue(allocation.owner).put([memory, bytes = allocation.bytes] { memset(memory, kPoison, bytes); });
  pool.emplace(std::pair(allocation.owner, allocation.bytes), memory);
}

void release(void* memory) {
  Lock lock(pool_mutex);
  auto found = live.find(memory);
  if (found == live.end()) return;
  auto allocation = found->second;
  live.erase(found);
  used_bytes -= allocation.bytes;
  if (allocation.users.empty()) return give_back(memory, allocation);
  std::thread([memory, allocation] {
    for (auto id : allocation.users) queue(id).drain();
    Lock lock(pool_mutex);
    give_back(memory, allocation);
  }).detach();
}

struct DeviceMemory final : c10::DeviceAllocator {
  c10::DataPtr allocate(size_t asked) override {
    size_t bytes = round_up(asked);
    Lock lock(pool_mutex);
    TORCH_CHECK_WITH(
        OutOfMemoryError, used_bytes + bytes <= limit_bytes, "sim out of memory: tried to allocate ", bytes, " bytes");
    void* memory;
    auto found = pool.find(std::pair(current, bytes));
    if (found != pool.end()) {
      memory = found->second;
      pool.erase(found);
    } else {
      memory = aligned_alloc(kAlignment, bytes);
      memset(memory, kPoison, bytes);
    }
    used_bytes += bytes;
    live[memory] = {bytes, current, {}};
    return {memory, memory, &release, Guard::device()};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}  // what is free is not counted as used
  void recordStream(const c10::DataPtr& pointer, c10::Stream one) override {
    Guard().recordDataPtrOnStream(pointer, one);
  }
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override { return {}; }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override {}
  void copy_data(void* target, const void* source, size_t bytes) const override { memcpy(target, source, bytes); }
};
DeviceMemory device_memory;
REGISTER_ALLOCATOR(kSim, &device_memory);

void Guard::recordDataPtrOnStream(const c10::DataPtr& pointer, const c10::Stream& one) const {
  Lock lock(pool_mutex);
  auto found = live.find(pointer.get_context());
  if (found != live.end()) found->second.users.insert(one.id());
}

std::mutex pinned_mutex;
std::map<const char*, size_t> pinned;

bool is_pinned(const void* place) {
  auto* byte = static_cast<const char*>(place);
  Lock lock(pinned_mutex);
  auto after = pinned.upper_bound(byte);
  if (after == pinned.begin()) return false;
  --after;
  return byte < after->first + after->second;
}

// A real allocator waits by events, for the copies that use the memory.
void unpin(void* memory) {
  Guard().synchronizeDevice(0);
  {
    Lock lock(pinned_mutex);
    pinned.erase(static_cast<const char*>(memory));
  }
  free(memory);
}

struct PinnedMemory final : c10::Allocator {
  c10::DataPtr allocate(size_t asked) override {
    size_t bytes = round_up(asked);
    void* memory = aligned_alloc(kAlignment, bytes);
    {
      Lock lock(pinned_mutex);
      pinned[static_cast<const char*>(memory)] = bytes;
    }
    return {memory, memory, &unpin, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &unpin; }
  void copy_data(void* target, const void* source, size_t bytes) const override { memcpy(target, source, bytes); }
};
PinnedMemory pinned_memory;

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  bool isPinnedPtr(const void* place) const override { return is_pinned(place); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned_memory; }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    auto* impl = storage.unsafeGetStorageImpl();
    impl->set_data_ptr_noswap(device_memory.allocate(bytes));
    impl->set_nbytes(bytes);
  }
};

// --- operators --------------------------------------------------------------------------------------------------

// The same memory as a tensor of the CPU; it keeps nothing alive, as on a real device.
Tensor on_cpu(const Tensor& tensor) {
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), tensor.options().device(at::kCPU));
}

Tensor empty(
    at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<at::Device>,
    std::optional<bool>, std::optional<at::MemoryFormat> format) {
  c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);
  return at::detail::empty_generic(size, &device_memory, keys, at::dtype_or_default(dtype), format);
}

Tensor empty_strided(
    at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
    std::optional<at::Device>, std::optional<bool>) {
  c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);
  return at::detail::empty_strided_generic(size, stride, &device_memory, keys, at::dtype_or_default(dtype));
}

Tensor copy_from(const Tensor& source, const Tensor& target, bool non_blocking) {
  bool inside = !source.is_cpu() && !target.is_cpu();
  bool from_pinned = source.is_cpu() && is_pinned(source.data_ptr());
  bool to_pinned = target.is_cpu() && is_pinned(target.data_ptr());
  bool later = inside || (non_blocking && (from_pinned || to_pinned));
  int microseconds = !later ? 0 : inside ? copy_microseconds / kTimesFaster : copy_microseconds.load();
  auto job = [from = on_cpu(source), to = on_cpu(target), microseconds]() mutable {
    std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
    c10::InferenceMode inference(true);
    to.copy_(from);
  };
  queue(current).put(job);
  if (!later) queue(current).drain();
  return target;
}

Tensor copy_from_and_resize(const Tensor& source, const Tensor& target) {
  at::native::resize_(target, source.sizes(), std::nullopt);
  return copy_from(source, target, false);
}

Tensor as_strided(
    const Tensor& tensor, c10::SymIntArrayRef size, c10::SymIntArrayRef stride, std::optional<c10::SymInt> offset) {
  return at::cpu::as_strided_symint(tensor, size, stride, offset);
}

const Tensor& resize(const Tensor& tensor, c10::SymIntArrayRef size, std::optional<at::MemoryFormat> format) {
  return at::native::resize_(tensor, C10_AS_INTARRAYREF_SLOW(size), format);
}

Tensor view(const Tensor& tensor, c10::SymIntArrayRef size) {
  return at::native::view(tensor, C10_AS_INTARRAYREF_SLOW(size));
}

Tensor reshape_alias(const Tensor& tensor, c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  return at::native::_reshape_alias(tensor, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}

Tensor& set_storage(
    Tensor& tensor, at::Storage storage, c10::SymInt offset, c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  return at::cpu::set_(
      tensor, storage, offset.expect_int(), C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}

at::Scalar item(const Tensor& tensor) {
  queue(current).drain();
  return on_cpu(tensor).item();
}

void record_stream(Tensor& tensor, c10::Stream one) {
  Guard().recordDataPtrOnStream(tensor.storage().data_ptr(), one);
}

Tensor convolution(
    const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding, int64_t groups) {
  queue(current).drain();
  std::optional<Tensor> own;
  if (bias && bias->defined()) own = on_cpu(*bias);
  auto made = at::convolution(
      on_cpu(input), on_cpu(weight), own, stride, padding, dilation, transposed, output_padding, groups);
  return made.to(input.device());
}

void on_the_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  queue(current).drain();
  at::native::cpu_fallback(op, stack, false, c10::DispatchKey::CPU);
  queue(current).drain();
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_the_cpu>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("as_strided", as_strided);
  m.impl("convolution_overrideable", convolution);
  m.impl("resize_", resize);
  m.impl("view", view);
  m.impl("_reshape_alias", reshape_alias);
  m.impl("set_.source_Storage_storage_offset", set_storage);
  m.impl("_local_scalar_dense", item);
  m.impl("record_stream", record_stream);
}

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFallthrough());
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("install", [] { at::RegisterPrivateUse1HooksInterface(new Hooks); });
  m.def("set_copy_time", [](int microseconds) { copy_microseconds = microseconds; });
  m.def("set_limit", [](size_t bytes) { limit_bytes = bytes; });
  m.def("used", [] { return used_bytes.load(); });
}
