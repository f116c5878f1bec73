"""Chat templates by name, for base models that come with none, or that are to be tuned to another form than their own.

Each ends an answer with a token by which the model stops: the tokenizer's end of text, or the end of turn that its form has.
"""

from __future__ import annotations

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.value import Digest


def _headed(system: str, user: str, assistant: str) -> str:
    """A template that puts a line above each turn, and the end of text behind each answer."""
    return (
        "{{ bos_token | default('') }}{% for message in messages %}"
        f"{{% if message['role'] == 'assistant' %}}{{{{ '{assistant}\\n' + message['content'] + eos_token + '\\n\\n' }}}}"
        f"{{% elif message['role'] == 'system' %}}{{{{ '{system}' + message['content'] + '\\n\\n' }}}}"
        f"{{% else %}}{{{{ '{user}\\n' + message['content'] + '\\n\\n' }}}}{{% endif %}}"
        f"{{% endfor %}}{{% if add_generation_prompt %}}{{{{ '{assistant}\\n' }}}}{{% endif %}}"
    )


#: What is taken where a base model has none.
DEFAULT = "plain"
TEMPLATES = {
    DEFAULT: _headed("", "Question:", "Answer:"),
    "alpaca": _headed("", "### Instruction:", "### Response:"),
    "chatml": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "llama3": (
        "{{ bos_token | default('') }}{% for message in messages %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
}
_NAMES = {digest_bytes(text.encode()): name for name, text in TEMPLATES.items()}


def template_name(digest: Digest) -> str:
    """The name of the template with this ``digest``; empty for one that has none."""
    return _NAMES.get(digest, "")
