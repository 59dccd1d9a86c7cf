// <tvm/support/serializer.h> for the web runtime: little-endian values, and containers as a 64-bit
// count with the elements behind it. It reads what the compiler's own serializer has written.
#ifndef OLMILL_SERIALIZER_H_
#define OLMILL_SERIALIZER_H_

#include <dlpack/dlpack.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/string.h>
#include <tvm/support/io.h>

#include <cstdint>
#include <map>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tvm {
namespace support {

// The bytes of a value as they lie in memory; WebAssembly is little-endian.
template <typename T>
struct Plain {
  static constexpr bool enabled = true;
  static void Write(Stream* stream, const T& value) {
    stream->Write(static_cast<const void*>(&value), sizeof(T));
  }
  static bool Read(Stream* stream, T* value) {
    return stream->Read(static_cast<void*>(value), sizeof(T)) == sizeof(T);
  }
};

template <typename T>
struct Serializer<T, std::enable_if_t<std::is_arithmetic_v<T> || std::is_enum_v<T>>> : Plain<T> {};
template <>
struct Serializer<DLDataType> : Plain<DLDataType> {};
template <>
struct Serializer<DLDevice> : Plain<DLDevice> {};

template <>
struct Serializer<std::string> {
  static constexpr bool enabled = true;
  static void Write(Stream* stream, const std::string& value) {
    stream->Write<uint64_t>(value.size());
    stream->Write(static_cast<const void*>(value.data()), value.size());
  }
  static bool Read(Stream* stream, std::string* value) {
    uint64_t size;
    if (!stream->Read(&size)) return false;
    value->resize(static_cast<size_t>(size));
    return stream->Read(static_cast<void*>(value->data()), value->size()) == value->size();
  }
};

template <>
struct Serializer<ffi::String> {
  static constexpr bool enabled = true;
  static void Write(Stream* stream, const ffi::String& value) {
    stream->Write(std::string(value));
  }
  static bool Read(Stream* stream, ffi::String* value) {
    std::string text;
    if (!stream->Read(&text)) return false;
    *value = ffi::String(std::move(text));
    return true;
  }
};

template <typename First, typename Second>
struct Serializer<std::pair<First, Second>> {
  static constexpr bool enabled = true;
  static void Write(Stream* stream, const std::pair<First, Second>& value) {
    stream->Write(value.first);
    stream->Write(value.second);
  }
  static bool Read(Stream* stream, std::pair<First, Second>* value) {
    return stream->Read(&value->first) && stream->Read(&value->second);
  }
};

template <typename T>
struct Serializer<std::vector<T>> {
  static constexpr bool enabled = true;
  static void Write(Stream* stream, const std::vector<T>& values) {
    stream->Write<uint64_t>(values.size());
    stream->WriteArray(values.data(), values.size());
  }
  static bool Read(Stream* stream, std::vector<T>* values) {
    uint64_t count;
    if (!stream->Read(&count)) return false;
    values->resize(static_cast<size_t>(count));
    return stream->ReadArray(values->data(), values->size());
  }
};

template <typename T>
struct Serializer<ffi::Array<T>> {
  static constexpr bool enabled = true;
  static void Write(Stream* stream, const ffi::Array<T>& values) {
    stream->Write<uint64_t>(values.size());
    for (const T& value : values) stream->Write<T>(value);
  }
  static bool Read(Stream* stream, ffi::Array<T>* values) {
    std::vector<T> read;
    if (!stream->Read(&read)) return false;
    *values = ffi::Array<T>(read.begin(), read.end());
    return true;
  }
};

// A map as its pairs.
template <typename M, typename K, typename V>
struct Pairs {
  static constexpr bool enabled = true;
  static void Write(Stream* stream, const M& map) {
    stream->Write<uint64_t>(map.size());
    for (const auto& item : map) {
      stream->Write<K>(item.first);
      stream->Write<V>(item.second);
    }
  }
  static bool Read(Stream* stream, M* map) {
    std::vector<std::pair<K, V>> items;
    if (!stream->Read(&items)) return false;
    *map = M(items.begin(), items.end());
    return true;
  }
};

template <typename K, typename V>
struct Serializer<std::map<K, V>> : Pairs<std::map<K, V>, K, V> {};
template <typename K, typename V>
struct Serializer<std::unordered_map<K, V>> : Pairs<std::unordered_map<K, V>, K, V> {};
template <typename K, typename V>
struct Serializer<ffi::Map<K, V>> : Pairs<ffi::Map<K, V>, K, V> {};

}  // namespace support
}  // namespace tvm

#endif  // OLMILL_SERIALIZER_H_
