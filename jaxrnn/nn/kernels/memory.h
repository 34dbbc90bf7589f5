// Memory of calls. What a thread gives back it keeps for its next call, which needs the same: a training step of a small
// network would else spend a tenth of its time asking for memory.
#ifndef JAXRNN_MEMORY_H_
#define JAXRNN_MEMORY_H_

#include <cstddef>
#include <memory>
#include <new>
#include <vector>

namespace jaxrnn {

constexpr std::align_val_t kCacheLine{64};

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define JAXRNN_KEEP_NOTHING
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define JAXRNN_KEEP_NOTHING
#endif

// Blocks of 64 bytes, 128 and so on, on a cache line's boundary; at most some of each size are kept, and no large ones: a
// thread keeps 4 MiB at most, and that only if its calls have needed so many of every size.
class Blocks {
 public:
  static void* Take(size_t bytes) {
    const int size = SizeOf(bytes);
    if (size >= kSizes) return ::operator new(bytes, kCacheLine);
    Shelf& shelf = Own().shelves[size];
    return shelf.count ? shelf.blocks[--shelf.count] : ::operator new(kSmallest << size, kCacheLine);
  }
  static void Give(void* block, size_t bytes) noexcept {
    const int size = SizeOf(bytes);
    if (size < kSizes) {
      Shelf& shelf = Own().shelves[size];
      if (shelf.count < kMostOfASize) {
        shelf.blocks[shelf.count++] = block;
        return;
      }
    }
    ::operator delete(block, kCacheLine);
  }

 private:
  static constexpr size_t kSmallest = 64;
#ifdef JAXRNN_KEEP_NOTHING  // an address sanitizer, which sees what is used after it was given back only where nothing is kept
  static constexpr int kSizes = 0;
#else
  static constexpr int kSizes = 13;  // up to 256 KiB
#endif
  static constexpr int kMostOfASize = 8;

  struct Shelf {
    void* blocks[kMostOfASize];
    int count = 0;
  };
  struct Shelves {
    Shelf shelves[kSizes + 1];
    ~Shelves() {
      for (Shelf& shelf : shelves) {
        while (shelf.count) ::operator delete(shelf.blocks[--shelf.count], kCacheLine);
      }
    }
  };
  static Shelves& Own() {
    thread_local Shelves own;
    return own;
  }
  static int SizeOf(size_t bytes) {
    int size = 0;
    while (size < kSizes && kSmallest << size < bytes) ++size;
    return size;
  }
};

struct Free {
  size_t bytes = 0;
  void operator()(float* pointer) const { Blocks::Give(pointer, bytes); }
};
// Uninitialised floats on a cache line's boundary.
class Floats {
 public:
  Floats() = default;
  explicit Floats(size_t size)
      : data_(size ? static_cast<float*>(Blocks::Take(size * sizeof(float))) : nullptr, Free{size * sizeof(float)}) {}
  float* get() const { return data_.get(); }

 private:
  std::unique_ptr<float, Free> data_;
};

template <typename T>
struct OfBlocks {
  using value_type = T;
  OfBlocks() = default;
  template <typename Other>
  OfBlocks(const OfBlocks<Other>&) {}
  T* allocate(size_t count) { return static_cast<T*>(Blocks::Take(count * sizeof(T))); }
  void deallocate(T* pointer, size_t count) noexcept { Blocks::Give(pointer, count * sizeof(T)); }
};
template <typename T, typename Other>
bool operator==(const OfBlocks<T>&, const OfBlocks<Other>&) {
  return true;
}
template <typename T, typename Other>
bool operator!=(const OfBlocks<T>&, const OfBlocks<Other>&) {
  return false;
}

template <typename T>
using Vector = std::vector<T, OfBlocks<T>>;

}  // namespace jaxrnn

#endif  // JAXRNN_MEMORY_H_
