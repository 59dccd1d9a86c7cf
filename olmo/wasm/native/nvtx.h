// <tvm/support/cuda/nvtx.h> for the web runtime: nothing is profiled there.
#ifndef OLMILL_NVTX_H_
#define OLMILL_NVTX_H_

#include <string>

namespace tvm {
namespace support {

struct NVTXScopedRange {
  explicit NVTXScopedRange(const std::string&) {}
};

}  // namespace support
}  // namespace tvm

#endif  // OLMILL_NVTX_H_
