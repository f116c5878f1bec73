"""llama.cpp's own server on a free port of this machine: ``python llamacpp_server.py MODEL ALIAS [ADAPTER …]``, with xllamacpp installed.

Out: its address, as the first line. It ends with its standard input.
"""

import sys

import xllamacpp


def main(model: str, alias: str, *adapters: str) -> None:
    """Serves until standard input ends."""
    asked = xllamacpp.CommonParams()
    asked.model.path = model
    asked.model_alias = {alias}
    asked.hostnames = ["127.0.0.1"]
    asked.port = 0
    asked.n_ctx, asked.n_parallel = 2048, 2
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = 1
    asked.warmup = False
    asked.use_jinja = True
    asked.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 1.0) for path in adapters]
    server = xllamacpp.Server(asked)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
