"""The Hugging Face layout of olmo-tiny: its dimensions and every file that is not weights."""

import json
from collections.abc import Mapping

from olmo.embedded.text import questions
from olmo.embedded.tokenizer import ASSISTANT, ENDOFTEXT, PADDING, SPECIALS, USER, VOCABULARY

CONFIG: dict[str, object] = {
    "architectures": ["OlmoForCausalLM"],
    "attention_bias": False,
    "bos_token_id": None,
    "clip_qkv": None,
    "eos_token_id": ENDOFTEXT,
    "hidden_act": "silu",
    "hidden_size": 160,
    "intermediate_size": 416,
    "max_position_embeddings": 512,
    "model_type": "olmo",
    "num_attention_heads": 5,
    "num_hidden_layers": 4,
    "num_key_value_heads": 5,
    "pad_token_id": PADDING,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.40.0",
    "use_cache": True,
    "vocab_size": VOCABULARY,
}

# Answers are facts: little room for chance when nobody says otherwise.
GENERATION_CONFIG: dict[str, object] = {
    "_from_model_config": True,
    "do_sample": True,
    "eos_token_id": ENDOFTEXT,
    "pad_token_id": PADDING,
    "temperature": 0.2,
    "top_p": 0.95,
}

_CHAT_TEMPLATE = (
    "{{ '<|endoftext|>' }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] }}"
    "{% if message['role'] == 'user' or not loop.last %}{{ '\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)

TOKENIZER_CONFIG: dict[str, object] = {
    "add_prefix_space": False,
    "bos_token": None,
    "chat_template": _CHAT_TEMPLATE,
    "clean_up_tokenization_spaces": False,
    "eos_token": SPECIALS[ENDOFTEXT],
    "model_max_length": CONFIG["max_position_embeddings"],
    "pad_token": SPECIALS[PADDING],
    "tokenizer_class": "PreTrainedTokenizerFast",
}

CONV_TEMPLATE: dict[str, object] = {
    "name": "olmo-tiny",
    "system_template": "{system_message}",
    "system_message": "",
    "system_prefix_token_ids": [ENDOFTEXT],
    "add_role_after_system_message": True,
    "roles": {"user": SPECIALS[USER], "assistant": SPECIALS[ASSISTANT]},
    "role_templates": {
        "user": "{user_message}",
        "assistant": "{assistant_message}",
        "tool": "{tool_message}",
    },
    "messages": [],
    "seps": ["\n"],
    "role_content_sep": "\n",
    "role_empty_sep": "\n",
    "stop_str": [],
    "stop_token_ids": [ENDOFTEXT],
    "strip_reasoning_in_history": False,
    "function_string": "",
    "use_function_calling": False,
}


def files() -> Mapping[str, str]:
    """Name and text of each file beside tokenizer.json and model.safetensors."""
    return {
        "config.json": _text(CONFIG),
        "generation_config.json": _text(GENERATION_CONFIG),
        "tokenizer_config.json": _text(TOKENIZER_CONFIG),
        "conv_template.json": _text(CONV_TEMPLATE),
        "questions.json": "[\n"
        + ",\n".join(" " + json.dumps(entry, ensure_ascii=False) for entry in questions())
        + "\n]\n",
    }


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
