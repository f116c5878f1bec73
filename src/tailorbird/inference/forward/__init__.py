"""What a model computes for a step's tokens: weights, adapters, memory of keys and values, the forward pass.

In: folders that were verified, batches of tokens. Out: hidden states, logits. Must not know: text, requests, tenants.
"""
