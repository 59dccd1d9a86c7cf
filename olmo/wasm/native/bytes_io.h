// "support/bytes_io.h" for the web runtime: streams over bytes in memory.
#ifndef OLMILL_BYTES_IO_H_
#define OLMILL_BYTES_IO_H_

#include <tvm/ffi/error.h>
#include <tvm/ffi/string.h>
#include <tvm/support/io.h>
#include <tvm/support/serializer.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace tvm {
namespace support {

// Reads bytes that the caller keeps.
class BytesInStream : public Stream {
 public:
  explicit BytesInStream(const ffi::Bytes& bytes) : at_(bytes.data()), end_(at_ + bytes.size()) {}
  explicit BytesInStream(const std::string& bytes) : at_(bytes.data()), end_(at_ + bytes.size()) {}

  using Stream::Read;
  using Stream::Write;

  size_t Read(void* to, size_t size) final {
    size = std::min(size, static_cast<size_t>(end_ - at_));
    if (size != 0) std::memcpy(to, at_, size);
    at_ += size;
    return size;
  }

  size_t Write(const void*, size_t) final {
    TVM_FFI_THROW(InternalError) << "this stream is for reading";
    TVM_FFI_UNREACHABLE();
  }

 private:
  const char* at_;
  const char* end_;
};

// Appends to a string of the caller's.
class BytesOutStream : public Stream {
 public:
  explicit BytesOutStream(std::string* bytes) : bytes_(bytes) {}

  using Stream::Read;
  using Stream::Write;

  size_t Read(void*, size_t) final {
    TVM_FFI_THROW(InternalError) << "this stream is for writing";
    TVM_FFI_UNREACHABLE();
  }

  size_t Write(const void* from, size_t size) final {
    bytes_->append(static_cast<const char*>(from), size);
    return size;
  }

 private:
  std::string* bytes_;
};

}  // namespace support
}  // namespace tvm

#endif  // OLMILL_BYTES_IO_H_
