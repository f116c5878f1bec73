"""vLLM as the engine: adapters are loaded while it runs, under the digests of their releases."""

from tailorbird.integrations.vllm.driver import open_driver

__all__ = ["open_driver"]
