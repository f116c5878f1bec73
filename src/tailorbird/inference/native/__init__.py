"""The forward pass in one compiled call a step, where the processor multiplies bf16 (AVX512-BF16) and a C++ compiler is at hand.

In: weights, adapters, batches. Out: what ``forward/plain.py`` computes, several times faster. Must not know: text, requests, tenants.
"""
