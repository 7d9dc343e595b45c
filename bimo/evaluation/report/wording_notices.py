"""Notices of a run and of reading texts in Chinese.

They are English sentences where they arise, and stand so in comparison.json; a report in another language says them again, by what is
written here: the sentence as its code has it, `{}` for what is filled in; in Chinese `{:said}` where that is a notice in itself.
"""

from __future__ import annotations

import re
from functools import lru_cache

_LONGEST = 1000  # characters: what is longer holds somebody's text, and is left as it is
NOTICES: dict[str, str] = {
    # what was read
    "read {} file(s) ({}): {} documents, {} bytes": "读入 {} 个文件（{}）：{} 篇文档，{} 字节",
    "dropped {} blank document(s), {} bytes": "去掉 {} 篇空白文档，{} 字节",
    "skipped {} record(s)": "跳过 {} 条记录",
    "skipped {}: {}": "跳过 {}：{:said}",
    "… and {} more skipped": "……另外还跳过 {} 个",
    "cleaned: {}": "清洗：{}",
    "{} of {} {} ({}) also stand in the training text": "{1} 个{2:said}中有 {0} 个（{3}）也出现在训练文本里",
    "documents": "文档",
    "lines": "行",
    "{} of {} documents are too short to be cut and stay whole in train": "{1} 篇文档中有 {0} 篇太短，不再切分，整篇留在训练部分",
    "tokenizer: learned from every {}th training document": "分词器：每 {} 篇训练文档取一篇来学习",
    "vocab_size: the text gives {} of the {} asked for": "vocab_size：要求 {1} 个，文本只能给出 {0} 个",
    "{} byte sequences are not {} and became U+FFFD": "{} 处字节不是 {}，已换成 U+FFFD",
    "line by line what it is given: {}": "逐行给出的条件：{}",
    "{} ({} skipped so)": "{:said}（因此跳过 {} 条）",
    "no main content found; all visible text was read": "没有找到正文，读入了所有可见文字",
    "records read as conversations": "记录按对话读入",
    "{} {} read as text, {} {} as what it is given": "{:said} {} 作为文本读入，{:said} {} 作为给定的条件",
    "{} {} read as text": "{:said} {} 作为文本读入",
    "field": "字段",
    "column": "列",
    # why a file was not read
    "hidden": "隐藏文件",
    "empty": "空文件",
    "only blank text": "只有空白",
    "not a file, or a link to nothing": "不是文件，或是失效的链接",
    "cannot be read ({})": "无法读取（{}）",
    "after {} document(s): {}": "读到 {} 篇文档之后：{:said}",
    "binary: {} of its first bytes are control characters": "二进制文件：开头的字节中有 {} 是控制字符",
    "binary: {}": "二进制文件：{}",
    "encrypted; unpack it first": "已加密，请先解包",
    "an archive within an archive; unpack it first": "压缩包里的压缩包，请先解包",
    "damaged ({})": "已损坏（{}）",
    "damaged Parquet file ({})": "Parquet 文件已损坏（{}）",
    "damaged or of an unknown kind ({})": "已损坏，或种类不明（{}）",
    "not JSON ({})": "不是 JSON（{}）",
    "not a table ({})": "不是表格（{}）",
    "no text in field {}": "字段 {} 中没有文本",
    "holds {}, not a record": "内容是 {}，不是记录",
    "has {} columns, the text would be column {}": "只有 {} 列，文本应在第 {} 列",
    # conversations
    "the model has no chat template, and is given a plain one: each text as it is, a token that ends texts behind it":
        "模型没有对话模板，改用最简单的一种：每段文本保持原样，后接一个结束词元",
    "the chat template ends an answer with no special token, so that an answer that is written ends at max_new_tokens; "
    "text.add_special_tokens adds one for it":
        "对话模板不以特殊词元结束回答，生成的回答只会止于 max_new_tokens；可用 text.add_special_tokens 加一个",
    "{} of {} conversations have more than {} tokens and {}: {} tokens": "{1} 段对话中有 {0} 段超过 {2} 个词元，{3:said}：共 {4} 个词元",
    "were cut there": "已从那里截断",
    "were left out": "未予采用",
    "{} conversations have no answer within {} tokens and were left out": "{} 段对话在 {} 个词元之内没有回答，未予采用",
    # batches
    "context reduced from {} to {}: the text has only {} tokens": "上下文由 {} 减为 {}：文本只有 {} 个词元",
    "rows repeat within a batch: {} windows of {} tokens for {} rows": "一批之内有重复的行：{} 个窗口（各 {} 个词元）要填 {} 行",
    "rows overlap: {} tokens for {} rows of {}": "行与行重叠：{} 个词元要填 {} 行，每行 {} 个",
    "{} texts packed into {} rows of {} tokens, {} filled{}": "{} 段文本装进 {} 行，每行 {} 个词元，填满 {}{:said}",
    "; the {} tokens that all begin with are read once a row": "；所有文本开头相同的 {} 个词元每行只读一次",
    "{} of {} {} and were cut there: {} tokens of them are not learned from":
        "{1} 段中有 {0} 段因{2:said}而在那里截断：有 {3} 个词元没有学到",
    "documents are longer than {} tokens": "文档超过 {} 个词元",
    "texts that are given are longer than {} tokens": "给定的文本超过 {} 个词元",
    "text.tags: {} of the training text's tokens have one of {} tags, which the model reads beside them: its folder opens in Bimo alone":
        "text.tags：训练文本的词元有 {} 带有 {} 种标记之一，模型一并读入；这样的模型文件夹只能由 Bimo 打开",
    # how a run went
    "met its cap before its steps were done": "步数未满，预算已尽",
    "stopped early, at step {}": "在第 {} 步提前停止",
    "stopped early at step {}: no improvement on validation text": "在第 {} 步提前停止：在验证文本上不再有改进",
    "the weights are those of step {} of {}, the best on validation text": "所用权重来自第 {} 步（共 {} 步），在验证文本上最好",
    "took {} s of a budget of {} s: a step took longer than the budget could tell": "预算 {1} 秒，用了 {0} 秒：有一步比预计的更久",
    "metrics.jsonl was cut short or taken away before the run was resumed; the curve lacks what stood there":
        "续训之前 metrics.jsonl 已被截短或移走，曲线缺少那一部分",
    "training.compile: no working compiler here ({}); went on without": "training.compile：这里没有可用的编译器（{}），未经编译继续训练",
    "{} tokens were added, and their rows learned too: only the whole model holds them":
        "新增了 {} 个词元，它们的向量也一并学习：只有完整的模型包含它们",
    "the card has no room for the model as it is written, whole: it was measured on the processor":
        "显卡放不下所写出的完整模型：测量在处理器上进行",
    "order: no document holds {} tokens; orders {} to {} are empty": "阶数：没有哪篇文档有 {} 个词元；第 {} 至 {} 阶为空",
    "order {}: too little text to estimate Kneser-Ney discounts (n-grams with count 1, 2, 3, 4: {}); the fallback {} is used":
        "{} 阶：文本太少，无法估计 Kneser-Ney 折扣（出现 1、2、3、4 次的 n 元组各有 {}），改用 {}",
    "the teacher wrote {} of {} tokens: the budget has no time for more": "教师模型只写了 {1} 个词元中的 {0} 个：预算不容许更多",
    "the teacher's documents were of another kind ({}) than this text's ({})": "教师模型学习时的文档划分（{}）与本文本的（{}）不同",
    # hybrids
    "no hybrid is made: none promises more on validation text than the best model alone":
        "没有做混合模型：在验证文本上，没有一种有望胜过最好的单个模型",
    "no hybrid is looked for: {}": "没有寻找混合模型：{:said}",
    "no hybrid is looked for: no model has learned whose score is exact": "没有寻找混合模型：没有能给出精确分数的模型",
    "no hybrid is looked for: there is no validation text to learn weights from; give --valid":
        "没有寻找混合模型：没有可用来学习权重的验证文本；请给出 --valid",
    "a hybrid is not made: {}": "有一个混合模型没有做：{}",
    "how long {} took to learn is not known, and does not count": "{} 学习所用的时间不得而知，未计入",
    "{} looked at, as faiss is not installed (pip install 'bimo[retrieval]')":
        "没有安装 faiss（pip install 'bimo[retrieval]'），{:said}",
    "all {} entries are": "全部 {} 条记忆都要逐条查看",
    "{} entries, drawn from the whole text, are kept, and all": "从全文中抽取 {} 条记忆保留，并且逐条查看",
    "{} of the k={} neighbours are found in probes={} cells; more probes find more":
        "k={1} 个近邻中，在 probes={2} 个单元里能找到 {0}；probes 越大，找到的越多",
    "{} of {} tokens are remembered, drawn from all of the training text; there was no time for more":
        "从整个训练文本抽取，记住了 {1} 个词元中的 {0} 个；时间不容许更多",
    "every part gives some token of the validation text no chance, so that their product does: the exponents are equal, not learned; "
    "mixture=linear mixes such parts":
        "每个部分都对验证文本的某个词元给出零概率，乘积也就如此：指数相等，未经学习；这样的部分可用 mixture=linear 来混合",
    "gives some token of the validation text no chance, which a product cannot make good: its exponent is 0":
        "对验证文本的某个词元给出零概率，乘积无法弥补：其指数为 0",
    "a gate tells held-out text no better than fixed weights do ({} and {} nats a token); the weights are fixed":
        "门控在留出文本上并不比固定权重好（每词元 {} 与 {} 奈特），因此权重固定",
    "all parts are averaged alike: there is no validation text that could tell which make it better":
        "各部分等权平均：没有验证文本可以判断哪些部分有益",
    "{} of {} parts are averaged; the others made it no better on validation text":
        "{1} 个部分中平均了 {0} 个；其余的在验证文本上没有带来改进",
}  # fmt: skip


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """What recognises each notice, those that say most first, and its Chinese."""
    known = sorted(NOTICES.items(), key=lambda item: -len(item[0]))
    first, field = "((?:(?!: ).)*?)", "(.*?)"  # what stands before a colon is told apart
    patterns = [
        (first if english.startswith("{}") else "") + field.join(map(re.escape, english.removeprefix("{}").split("{}")))
        for english, _ in known
    ]
    return [(re.compile(pattern, re.DOTALL), chinese) for pattern, (_, chinese) in zip(patterns, known, strict=True)]


class _Field(str):
    """What was filled into a notice."""

    def __format__(self, spec: str) -> str:
        return noticed(self, "zh") if spec == "said" else str(self)


def noticed(notice: str, lang: str) -> str:
    """A notice in `lang`; what stands before a colon stays, and so does all of it that is not known.

    >>> noticed("gru: stopped early, at step 40", "zh"), noticed("gru: stopped early, at step 40", "en")
    ('gru：在第 40 步提前停止', 'gru: stopped early, at step 40')
    """
    if lang == "en" or len(notice) > _LONGEST:
        return notice
    for pattern, chinese in _patterns():
        if found := pattern.fullmatch(notice):
            return chinese.format(*map(_Field, found.groups()))
    head, colon, rest = notice.partition(": ")
    said = noticed(rest, lang) if colon else rest
    return notice if said == rest else f"{head}：{said}"
