"""OLMo as MLC LLM runs it: configuration, weights, conversion, compilation and generation."""
