// Included in front of every C++ source of the web runtime: what the standard library of
// wasm32-wasi leaves out, as it is with one thread and no files.
#ifndef OLMILL_STD_H_
#define OLMILL_STD_H_
#ifdef __cplusplus

#include <chrono>
#include <istream>
#include <mutex>
#include <ostream>
#include <string>

_LIBCPP_BEGIN_NAMESPACE_STD

class mutex {
 public:
  constexpr mutex() noexcept = default;
  void lock() {}
  void unlock() {}
  bool try_lock() { return true; }
};

class recursive_mutex : public mutex {};

template <class... Mutexes>
class scoped_lock {
 public:
  explicit scoped_lock(Mutexes&...) {}
};

namespace this_thread {
template <class Rep, class Period>
void sleep_for(const chrono::duration<Rep, Period>&) {}
}  // namespace this_thread

// A file that cannot be opened: reading and writing fail as they do without permission.
template <class C, class T>
class basic_ifstream : public basic_istream<C, T> {
 public:
  explicit basic_ifstream(const string&, ios_base::openmode = ios_base::in)
      : basic_istream<C, T>(nullptr) {}
  bool is_open() const { return false; }
  void close() {}
};

template <class C, class T>
class basic_ofstream : public basic_ostream<C, T> {
 public:
  explicit basic_ofstream(const string&, ios_base::openmode = ios_base::out)
      : basic_ostream<C, T>(nullptr) {}
  bool is_open() const { return false; }
  void close() {}
};

_LIBCPP_END_NAMESPACE_STD

#endif  // __cplusplus
#endif  // OLMILL_STD_H_
