// The web runtime has no remote procedure calls; its local session is all that is left of them.
#include "../../src/runtime/rpc/rpc_session.h"

namespace tvm {
namespace runtime {

ffi::Module CreateRPCSessionModule(std::shared_ptr<RPCSession>) {
  TVM_FFI_THROW(RuntimeError) << "this runtime has no remote procedure calls";
  TVM_FFI_UNREACHABLE();
}

}  // namespace runtime
}  // namespace tvm
