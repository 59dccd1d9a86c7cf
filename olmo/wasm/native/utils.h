// "support/utils.h" for the web runtime: what it uses of it.
#ifndef OLMILL_UTILS_H_
#define OLMILL_UTILS_H_

#include <cstring>
#include <string>

namespace tvm {
namespace support {

inline bool StartsWith(const std::string& text, const char* prefix) {
  return text.compare(0, std::strlen(prefix), prefix) == 0;
}

}  // namespace support
}  // namespace tvm

#endif  // OLMILL_UTILS_H_
