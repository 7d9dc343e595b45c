"""What the tables of evidence share: rows, the Chinese of their words, what stands where a record is absent, when a record was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.record import BUSY, of_time

Record = Mapping[str, Any]
Records = Mapping[str, Record]
Say = Callable[[str], str]
BENCHES = (
    "ngram-kenlm", "nanogpt-cpu", "training-speed", "recurrent-speed", "encoder-speed", "adapter-speed", "translation-speed",
    "tokenizer-speed", "conformance", "cli-start", "first-word",
)  # fmt: skip

_BUSY = "the machine was at other work in the minute before"
CHINESE = {
    "what": "内容", "asked": "要求", "measured": "实测", "measured on": "测于", "given again by": "重做命令", "model": "模型",
    "{} runs side by side, {} CPU each": "{} 个运行并行，各 {} 个 CPU",
    "names": "人名", "lines of Tang poems": "唐诗句", "nats a token that the GAN is better by, each run": "GAN 每词元好出的奈特，各次运行",
    "mean ± standard error": "均值 ± 标准误", "winner": "胜者", "the GAN": "GAN", "likelihood": "似然", "neither": "不分胜负",
    "best size": "最佳规模", "operations": "运算次数", "over C^0.5": "与 C^0.5 之比",
    "width: bits per byte": "宽度：每字节比特",
    _BUSY: "开始前的一分钟里，机器另有工作", "gone on with after a stop": "中断后接着做完",
    "the third VAE was learned twice: beside its first ten minutes other work had run (1.055 times the LSTM)":
        "第三个 VAE 学了两次：第一次的十分钟里机器另有工作（为 LSTM 的 1.055 倍）",
    "bits per byte": "每字节比特",
    "perplexity": "困惑度", "parameters": "参数量", "time used": "所用时间", "training tokens/s": "训练词元/秒", "text": "文本",
    "tokenizer": "分词器", "peer": "对照", "ratio": "比值", "characters": "字", "words": "词", "not measured yet": "尚未测量",
    "of the bytes lost": "的字节丢失",
    "Penn Treebank, 5-gram: test perplexity": "Penn Treebank，5-gram：测试困惑度",
    "Penn Treebank, 3-gram: test perplexity": "Penn Treebank，3-gram：测试困惑度",
    "Penn Treebank, LSTM, {} min: test perplexity": "Penn Treebank，LSTM，{} 分钟：测试困惑度",
    "tinyshakespeare, decoder, {} min: nats a character of the text that settings were chosen on":
        "tinyshakespeare，decoder，{} 分钟：每字符奈特（设置即在此文本上选定）",
    "SmolLM2-135M, fp32: largest difference of logits from transformers'": "SmolLM2-135M，fp32：logits 与 transformers 的最大差",
    "F16 < 0.001, 16 same greedy tokens": "F16 < 0.001，16 个贪心词元相同",
    "about 82": "约 82",
    "ten chat prompts and two second ones: greedy answers, 48 tokens at most, that are transformers'":
        "十个对话提示和两个追问：与 transformers 相同的贪心回答（至多 48 个词元）",
    "our GGUF export in llama.cpp: KL a token from Bimo's reading of the same file":
        "我们导出的 GGUF 在 llama.cpp 中：与 Bimo 读同一文件相比的每词元 KL",
    "SmolLM2-135M, LoRA on 1,000 instructions, 10 min: nats saved on each token of held-out answers":
        "SmolLM2-135M，LoRA，1,000 条指令，10 分钟：留出回答每词元省下的奈特",
    "all-MiniLM-L6-v2, STS-B test: Spearman × 100": "all-MiniLM-L6-v2，STS-B 测试集：Spearman × 100",
    "spoiled files that opened or were refused in words": "弄坏的文件：打开了，或用话拒绝了",
    "LoRA fine-tuning of SmolLM2, tokens of conversations/s": "SmolLM2 的 LoRA 微调，对话词元/秒",
    "the same, with the template's beginning read in each conversation": "同上，但每段对话都读一遍模板的开头",
    "ended by its cap": "到时截止", "one seed": "一个种子",
    "Multi30k, English to German, {} min: BLEU": "Multi30k，英译德，{} 分钟：BLEU",
    "STS-B, English: Spearman by contrast over mean pooling": "STS-B 英文：对比学习较均值池化的 Spearman 增益",
    "supervised": "有监督", "unsupervised": "无监督", "missed": "未达到",
    "STS-B, Chinese: Spearman by contrast over mean pooling": "STS-B 中文：对比学习较均值池化的 Spearman 增益",
    "the same, text tokens/s with each side's own loader": "同上，各用自己的装载器，文本词元/秒",
    "killed runs that end with the same bits": "被杀后恢复、权重逐位相同的运行", "of which inside a save": "其中在保存途中被杀",
    "the conformance test of all families, with its mutants, two processes": "所有家族的一致性测试，连同变异体，两个进程",
    "the main job, from command to report": "主要任务：从命令到报告",
    "lines in memory to estimated 5-gram": "从内存中的文本行到 5-gram 模型",
    "memory for it above the imports": "所需内存（导入之外）", "scored words/s, one thread": "评分词/秒，单线程",
    "scored words/s, two threads": "评分词/秒，双线程", "time to 1.88 nats a character": "达到每字符 1.88 奈特的时间",
    "training step, 6 layers of 384": "训练一步，6 层宽 384", "training step, LSTM": "训练一步，LSTM",
    "training step, encoder": "训练一步，编码器", "training step, encoder–decoder": "训练一步，编码器–解码器",
    "share of the best matrix rate": "占最佳矩阵速率", "byte-level BPE, a text": "字节级 BPE，整篇",
    "byte-level BPE, lines": "字节级 BPE，逐行",
    "CPU recipe of nanoGPT": "nanoGPT 的 CPU 配方", "documents": "文档",
    "test perplexity (95 %)": "测试困惑度（95 %）", "of each seed": "各种子",
    "bound": "上界", "samples": "个样本", "seed": "种子", "negative ELBO": "负 ELBO", "latents exchanged": "交换隐变量",
    "active units": "活跃维数",
    "over the LSTM's nats": "与 LSTM 奈特之比",
    "input": "输入", "plain": "只有词元", "tags": "加词性标记", "positions": "加位置", "another seed": "换随机种子",
    "nats saved beside plain": "比只有词元省下的奈特", "Penn Treebank, stream": "Penn Treebank，连续",
    "bits per byte, each seed": "每字节比特，各种子", "saved, over": "省下，相对于", "at least": "以上", "dial": "旋钮",
    "a gate": "门控", "a gate, given up": "门控，已放弃", "interval from": "区间下限",
    "memory, first and last tenth": "内存，首末十分之一", "a token, last tenth": "每词元（末十分之一）", ", ": "，", "exact": "逐条查找",
    "neighbours among a million entries": "百万条目中的近邻", "hybrid": "混合模型", "the decoder alone": "仅 decoder", "grown": "增长",
    "weights": "权重", "test perplexity": "测试困惑度", "nats saved (95 %)": "省下的奈特（95 %）",
    "perplexity saved, over": "困惑度降幅，相对于",
    "Penn Treebank, lines": "Penn Treebank，逐行", "lm-zh-wiki, words": "lm-zh-wiki，词",
}  # fmt: skip


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = ["| " + " | ".join(row) + " |" for row in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])


def missing(name: str, say: Say) -> str:
    """What stands where a record is absent."""
    return f"*{say('not measured yet')}: {again(name)}*"


def again(name: str) -> str:
    """The command that makes a record."""
    return f"`make {'bench' if name in BENCHES else 'evidence'} ONLY={name}`"


def day(found: Records, name: str) -> str:
    """When a record was made; marked where it is a timing, or a run of so much time, of a machine that was busy before it.

    Runs side by side have processors of their own, and their table says so.
    """
    record = found[name]
    timed = name in BENCHES or of_time(record["budget"])
    busy = record["machine"]["load_before"] > BUSY
    return f"{record['date']} †" if timed and busy else record["date"]


def explained(made: str, say: Say) -> str:
    """A table, and below it what its mark means."""
    return f"{made}\n\n<sub>† {say(_BUSY)}</sub>" if "†" in made else made


def dated(made: str, found: Records, names: Sequence[str], say: Say) -> str:
    """A table, and below it when each of its records was made, how to make it again, and on what where its runs stood side by side."""
    told = [f"{say('measured on')} {day(found, name)}: {again(name)}{_how(found[name], say)}" for name in names if name in found]
    return explained(f"{made}\n\n<sub>{'; '.join(told)}</sub>", say) if told else made


def _how(record: Record, say: Say) -> str:
    machine, said = record["machine"], []
    if "at_once" in machine:
        said = [say("{} runs side by side, {} CPU each").format(machine["at_once"], each(machine)), *machine["cuda"]]
    if record.get("went_on"):
        said.append(say("gone on with after a stop"))
    if "note" in record:
        said.append(say(record["note"]))
    return f" ({', '.join(said)})" if said else ""


def each(machine: Mapping[str, Any]) -> int:
    """Processors that a run had."""
    return machine["cores"] // machine.get("at_once", 1)
