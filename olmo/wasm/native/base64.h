// "support/base64.h" for the web runtime: a stream through base64 (RFC 4648), with padding.
#ifndef OLMILL_BASE64_H_
#define OLMILL_BASE64_H_

#include <tvm/ffi/error.h>
#include <tvm/support/io.h>

#include <cstdint>
#include <cstring>
#include <string>

namespace tvm {
namespace support {

inline constexpr char kBase64[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// Encodes what is written; `Finish` writes the last bytes.
class Base64OutStream : public Stream {
 public:
  explicit Base64OutStream(Stream* out) : out_(out) {}

  using Stream::Read;
  using Stream::Write;

  size_t Write(const void* from, size_t size) final {
    for (size_t i = 0; i < size; ++i) {
      bits_ = bits_ << 8 | static_cast<const uint8_t*>(from)[i];
      if (++held_ == 3) Put();
    }
    return size;
  }

  void Finish() {
    if (held_ == 0) return;
    bits_ <<= 8 * (3 - held_);
    Put();
  }

  size_t Read(void*, size_t) final {
    TVM_FFI_THROW(InternalError) << "this stream is for writing";
    TVM_FFI_UNREACHABLE();
  }

 private:
  void Put() {
    char text[4];
    for (int i = 0; i < 4; ++i) text[i] = i > held_ ? '=' : kBase64[bits_ >> (18 - 6 * i) & 63];
    out_->Write(static_cast<const void*>(text), sizeof(text));
    bits_ = held_ = 0;
  }

  Stream* out_;
  uint32_t bits_ = 0;
  int held_ = 0;
};

// Decodes what is read, up to the padding, the end, or the first other character.
class Base64InStream : public Stream {
 public:
  explicit Base64InStream(Stream* in) : in_(in) {}

  using Stream::Read;
  using Stream::Write;

  void InitPosition() {}

  size_t Read(void* to, size_t size) final {
    size_t done = 0;
    while (done < size && Fill()) {
      held_ -= 8;
      static_cast<uint8_t*>(to)[done++] = static_cast<uint8_t>(bits_ >> held_);
    }
    return done;
  }

  size_t Write(const void*, size_t) final {
    TVM_FFI_THROW(InternalError) << "this stream is for reading";
    TVM_FFI_UNREACHABLE();
  }

 private:
  bool Fill() {
    while (held_ < 8) {
      char next;
      if (in_->Read(static_cast<void*>(&next), 1) != 1 || next == '\0') return false;
      const char* found = std::strchr(kBase64, next);
      if (found == nullptr) return false;
      bits_ = bits_ << 6 | static_cast<uint32_t>(found - kBase64);
      held_ += 6;
    }
    return true;
  }

  Stream* in_;
  uint32_t bits_ = 0;
  int held_ = 0;
};

}  // namespace support
}  // namespace tvm

#endif  // OLMILL_BASE64_H_
