"""llama.cpp's own server at the best setting found here: ``llamacpp_server.py PORT MODEL [ADAPTER …]``, with xllamacpp installed."""

import sys
import threading

import xllamacpp


def main(port: str, model: str, *adapters: str) -> None:
    """Serves until the process is ended. Two threads, 16 slots of 2,048 tokens; adapters are off but where a request names one."""
    asked = xllamacpp.CommonParams()
    asked.model.path = model
    asked.model_alias = {"base"}
    asked.hostnames = ["127.0.0.1"]
    asked.port = int(port)
    asked.n_ctx, asked.n_parallel = 16 * 2048, 16
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = 2
    asked.use_jinja = True
    asked.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 0.0) for path in adapters]
    server = xllamacpp.Server(asked)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
