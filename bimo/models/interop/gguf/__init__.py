"""GGUF files, the one-file models of llama.cpp: read into the Hugging Face layout, and written from it.

`read_gguf` opens Llama, Qwen2, Qwen3, GPT-2 and BERT models in F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K and Q6_K; what it gives opens by
`bimo.models.base.model_of`. `write_gguf` writes what a model's `config_dict()` and `tensors()` say as f32, f16, bf16, q8_0 or q4_0.
"""

from bimo.models.interop.gguf.reading import GgufModel, read_gguf
from bimo.models.interop.gguf.writing import write_gguf

__all__ = ["GgufModel", "read_gguf", "write_gguf"]
