"""OLMo in TVM Relax, and the module that it lowers to."""
