"""Notices of a run and of reading texts in Chinese.

They are English sentences where they arise, and stand so in comparison.json; a report in Chinese says them again, by what is written here:
the sentence as its code has it, with what is filled in as `{n}`, a number, `{w}`, a word, or `{}`, any text. In Chinese these are counted
from 0, and `{0:said}` is a notice in itself. What other programs say, and why a model failed, stay as they are.
"""

from __future__ import annotations

import re
from functools import lru_cache

_LONGEST = 300  # characters: what is longer holds somebody's text, and is left as it is

NOTICES: dict[str, str] = {  # the first that fits counts
    "{} ({n} skipped so)": "{0:said}（因此跳过 {1} 条）",
    "{} and {n} more": "{0} 及另外 {1} 个",  # what a text of several files is called
    # what was read
    "read {n} file(s) ({}): {n} documents, {n} bytes": "读入 {0} 个文件（{1}）：{2} 篇文档，{3} 字节",
    "dropped {n} blank document(s), {n} bytes": "去掉 {0} 篇空白文档，{1} 字节",
    "skipped {n} record(s)": "跳过 {0} 条记录",
    "skipped {}: {}": "跳过 {0}：{1:said}",
    "… and {n} more skipped": "……另外还跳过 {0} 个",
    "cleaned: {}": "清洗：{0}",
    "{n} of {n} documents ({n}) also stand in the training text": "{1} 篇文档中有 {0} 篇（{2}）也出现在训练文本里",
    "{n} of {n} lines ({n}) also stand in the training text": "{1} 行中有 {0} 行（{2}）也出现在训练文本里",
    "{n} of {n} documents are too short to be cut and stay whole in train": "{1} 篇文档中有 {0} 篇太短，不再切分，整篇留在训练部分",
    "tokenizer: learned from every {n}th training document": "分词器：每 {0} 篇训练文档取一篇来学习",
    "vocab_size: {n} tokens instead of {n}, as each character of the text needs one":
        "vocab_size：共 {0} 个词元而不是 {1} 个，因为文本中的每个字符都要有一个",
    "vocab_size: the text gives {n} of the {n} asked for": "vocab_size：要求 {1} 个，文本只能给出 {0} 个",
    "{n} byte sequences are not {} and became U+FFFD": "{0} 处字节不是 {1}，已换成 U+FFFD",
    "read as {w}, but it may be {}; state which with --encoding, such as --encoding {w}":
        "按 {0} 读入，但也可能是 {1}；请用 --encoding 指明，例如 --encoding {2}",
    "read as {w}, but from byte {n} on it is UTF-8; state one with --encoding, or split the file":
        "按 {0} 读入，但从第 {1} 个字节起是 UTF-8；请用 --encoding 指明一种，或把文件拆开",
    "its encoding is ISO-2022-CN; convert it first, for example with iconv -f ISO-2022-CN -t UTF-8":
        "编码是 ISO-2022-CN，请先转换，例如用 iconv -f ISO-2022-CN -t UTF-8",
    "numbers and time codes of subtitles are read as text; save what is said without them first":
        "字幕的序号和时间码也当作文本读入；请先另存为只含对白的文本",
    "its tags are read as text; text.clean.markup=true leaves them out": "标签也当作文本读入；加上 text.clean.markup=true 可去掉标签",
    "{n} bytes behind the gzip data are no gzip data and were left out": "gzip 数据之后的 {0} 字节不是 gzip 数据，没有读入",
    "an RTF document; save its text first": "RTF 文档，请先另存为文本",
    "a PostScript program; save its text first": "PostScript 文件，请先另存为文本",
    "an office document in XML; save its text first": "XML 格式的办公文档，请先另存为文本",
    "a Git LFS pointer in place of the file; fetch the file with git lfs pull": "这是 Git LFS 指针而不是文件本身，请先用 git lfs pull 取回",
    "a Jupyter notebook; convert it first, for example with jupyter nbconvert --to markdown":
        "Jupyter 笔记本，请先转换，例如用 jupyter nbconvert --to markdown",
    "only {n} steps were made in the time: too few to learn much; a longer --budget makes more":
        "在限定时间内只训练了 {0} 步，学不到多少；请把 --budget 加长",
    "already made on {}, shown again; another --out makes it anew":
        "已于 {0} 训练完成，这里显示的是当时的结果；换一个 --out 可重新训练",
    "loss {n} before, {n} after, on {n} tokens of held-out text": "留出文本（{2} 个词元）上的损失：微调前 {0}，微调后 {1}",
    "loss {n} before, {n} after, on {n} tokens of training text, since too little is held out":
        "训练文本（{2} 个词元，因留出的太少）上的损失：微调前 {0}，微调后 {1}",
    "the figures are of {n} held-out documents, {n} tokens: too few to judge by":
        "各项指标只来自 {0} 篇留出文本（{1} 个词元），太少，不足为凭",
    "line by line what it is given: {}": "逐行给出的条件：{0}",
    "no main content found; all visible text was read": "没有找到正文，读入了所有可见文字",
    "without effect, as it is read as {}": "不起作用，因为按 {0} 读入",
    "records read as conversations": "记录按对话读入",
    "{w} {} read as text, {w} {} as what it is given": "{0:said} {1} 作为文本读入，{2:said} {3} 作为给定的条件",
    "{w} {} read as text": "{0:said} {1} 作为文本读入",
    "{w} {} read as text (no header)": "{0:said} {1} 作为文本读入（没有表头）",
    "field": "字段",
    "column": "列",
    # why a file or a record was not read
    "hidden": "隐藏文件",
    "empty": "空文件",
    "only blank text": "只有空白",
    "not a file, or a link to nothing": "不是文件，或是失效的链接",
    "cannot be read ({})": "无法读取（{0}）",
    "after {n} document(s): {}": "读到 {0} 篇文档之后：{1:said}",
    "binary: {n} of its first bytes are control characters": "二进制文件：开头的字节中有 {0} 是控制字符",
    "binary: {}": "二进制文件：{0}",
    "encrypted; unpack it first": "已加密，请先解包",
    "an archive within an archive; unpack it first": "压缩包里的压缩包，请先解包",
    "{n} members, more than {n}; unpack it yourself": "内含 {0} 个文件，超过 {1} 个，请自行解包",
    "unpacks to more than {n} bytes ({n} times its size): a zip bomb? unpack it yourself":
        "解压后超过 {0} 字节（原来大小的 {1} 倍）：是压缩炸弹吗？请自行解包",
    "needs the library pyarrow; pip install 'bimo[text]'": "需要 pyarrow 库：pip install 'bimo[text]'",
    "needs the library zstandard; pip install 'bimo[text]'": "需要 zstandard 库：pip install 'bimo[text]'",
    "needs the library trafilatura; pip install 'bimo[text]' ({})": "需要 trafilatura 库：pip install 'bimo[text]'（{0}）",
    "damaged ({})": "已损坏（{0}）",
    "damaged Parquet file ({})": "Parquet 文件已损坏（{0}）",
    "damaged or of an unknown kind ({})": "已损坏，或种类不明（{0}）",
    "not JSON ({})": "不是 JSON（{0}）",
    "its records are {} (field {}), not texts; bimo finetune learns from them{}":
        "其中的记录是{0:said}（字段 {1}），不是文本；可用 bimo finetune 学习{2}",
    "its records are preferences (field {}), which are no texts{}": "其中的记录是偏好数据（字段 {0}），不是文本{1}",
    "conversations": "对话",
    "prompts and answers": "提示与回答",
    "instructions and answers": "指令与回答",
    "questions and answers": "问题与回答",
    "no conversations, nor texts (fields: {}); name the fields as one of these: {}; or text{}":
        "既没有对话，也没有文本（字段：{0}）；请把字段命名为其中之一：{1}；或 text{2}",
    "no field 'text' or 'content', and not just one that holds text (fields: {}){}":
        "没有字段 'text' 或 'content'，含文本的字段也不止一个（字段：{0}）{1}",
    "no {w} {}; there are: {}": "没有{0:said} {1}；现有：{2}",
    "{n} records skipped for other reasons": "因其他原因跳过 {0} 条记录",
    "records are {}": "记录的形式：{0:said}",
    "not of the shape of the others: {}": "与其他记录的形式不同（{0:said}）",
    "paragraphs with questions": "段落及问题",
    "passages with questions": "短文及问题",
    "questions with choices": "选择题",
    "utterances of two speakers by turns": "两人轮流说的话",
    "a question without an answer": "问题没有答案",
    "a question without choices or without an answer": "问题没有选项或没有答案",
    "not a list of utterances": "不是话语的列表",
    "has no fields of a conversation": "没有对话的字段",
    "a Parquet file without rows": "Parquet 文件里没有行",
    "{}; its bytes are read as UTF-8": "{0:said}；其字节按 UTF-8 读入",
    "columns without a name of their own: {}": "没有自己名字的列：{0}",
    "has {n} cells where the table has {n}": "有 {0} 格，而表格有 {1} 列",
    "has {n} cells where the table has {n}; --delimiter none reads each line as a text":
        "有 {0} 格，而表格有 {1} 列；--delimiter none 把每行作为一篇文本读入",
    "a quote is opened and never closed": "引号开了却没有闭合",
    "text follows a closing quote (a quote within quotes is doubled)": "闭合引号之后还有文字（引号内的引号要写两遍）",
    "line {n}: a quote is opened and never closed, as in {n} lines before": "第 {0} 行：引号开了却没有闭合，前面已有 {1} 行如此",
    "delimiter {}; --delimiter states another": "分隔符是 {0}；可用 --delimiter 另行指定",
    "delimiter {}; {} would part it, too; --delimiter states another": "分隔符是 {0}；按 {1} 也能分开；可用 --delimiter 另行指定",
    "cells are in quotes, which are taken off": "单元格带引号，已去掉",
    "quotes within cells are escaped by backslashes": "单元格里的引号用反斜杠转义",
    "quotes are kept as text, as they do not pair around cells": "引号没有成对地括住单元格，按文字保留",
    "quotes around cells are kept as text; a file whose name ends with .csv is read without them":
        "括住单元格的引号按文字保留；文件名以 .csv 结尾则会去掉",
    "its rows seem to be parted by {}; if they are: --delimiter {}": "各行似乎是用 {0} 分开的；若是如此：--delimiter {1}",
    "no delimiter gives most rows the same number of cells: by {} line {n} has {n}, most have {n}; a delimiter that is stated (--delimiter) is obeyed, and such rows are skipped; --delimiter none reads lines as texts":  # noqa: E501
        "没有哪个分隔符能使多数行的格数相同：按 {0}，第 {1} 行有 {2} 格，多数行有 {3} 格；用 --delimiter 指定的分隔符照办，格数不同的行会跳过；--delimiter none 把每行作为一篇文本读入",  # noqa: E501
    "the first row {} is taken for a header; --no-header reads it as text": "第一行 {0} 看作表头；--no-header 把它当作文本",
    "{w} {} read as text; {} would be one, too: --text-column": "{0:said} {1} 作为文本读入；{2} 也可能是文本：--text-column",
    "{w} {} read as text; {} repeat and are taken for labels": "{0:said} {1} 作为文本读入；{2} 的值重复出现，看作标签",
    "no text in field {}": "字段 {0} 中没有文本",
    "no text in turn {n}": "第 {0} 轮没有文本",
    "no text in {}": "{0} 中没有文本",
    "holds {w}, not a record": "内容是 {0}，不是记录",
    "no answer to learn from (no turn of role assistant)": "没有可学的回答（没有角色为 assistant 的一轮）",
    "{} stands beside a list of turns; put it into one of them": "{0} 与对话列表并列，请放进其中一轮",
    "{} is no list of turns": "{0} 不是对话列表",
    "turn {n} of {} has no role and content": "{1} 的第 {0} 轮没有 role 和 content",
    "turn {n} of {} has {} {}; only 1 or true is known, and 0 or false of an answer that is not learned":
        "{1} 的第 {0} 轮的 {2} 为 {3}；只认 1 或 true，以及表示该回答不学习的 0 或 false",
    "the record has {} {}; only 1 or true is known, and 0 or false of an answer that is not learned":
        "记录的 {0} 为 {1}；只认 1 或 true，以及表示不学习的 0 或 false",
    "turn {n} of {} has {}, but is not an answer; only answers are learned":
        "{1} 的第 {0} 轮的 {2} 要求学习，但它不是回答；只学习回答",
    "turn {n} has a part of type {}, which is not read; only texts are": "第 {0} 轮有一部分类型为 {1}，不会读取；只读文本",
    "{} has a part of type {}, which is not read; only texts are": "{0} 有一部分类型为 {1}，不会读取；只读文本",
    "the record has {} false, which marks an answer that is not to be learned": "记录的 {0} 为 false，表示回答不好，不应学习",
    "the record has {} {}: it is not to be learned": "记录的 {0} 为 {1}，表示不学习",
    "the record has {} beside a system turn that says something else; leave one of them out":
        "记录的 {0} 与 system 一轮内容不同，请去掉其中之一",
    "the record has {} beside {}; leave it out, or put it into a turn": "记录在 {1} 之外还有 {0}，请去掉，或放进某一轮",
    "entry {n} of history is not a pair of a question and its answer": "history 的第 {0} 项不是一问一答",
    "fields beside the conversations that are not read: {}": "对话之外没有读取的字段：{0}",
    "turn {n} of {} is of role {}; known: {}": "{1} 的第 {0} 轮角色为 {2}；可用的有 {3}",
    "turn {n} of {} has a name that is no text: {}": "{1} 的第 {0} 轮的 name 不是文本：{2}",
    "turn {n} of {} has {}, which is not read; leave it out, or put it into the content":
        "{1} 的第 {0} 轮有不会读取的 {2}，请去掉，或写进 content",
    "the record has {}, which is not read; leave it out, or put it into the content": "记录里有不会读取的 {0}，请去掉，或写进 content",
    # conversations that are learned from
    "the model has no chat template, and is given a plain one: each text as it is, a token that ends texts behind it":
        "模型没有对话模板，改用最简单的一种：每段文本保持原样，后接一个结束词元",
    "the chat template ends an answer with no special token, so that an answer that is written ends at max_new_tokens; "
    "text.add_special_tokens adds one for it":
        "对话模板不以特殊词元结束回答，生成的回答只会止于 max_new_tokens；可用 text.add_special_tokens 加一个",
    "{n} of {n} conversations have more than {n} tokens and were cut there: {n} tokens":
        "{1} 段对话中有 {0} 段超过 {2} 个词元，超出的部分已截去：共舍去 {3} 个词元",
    "{n} of {n} conversations have more than {n} tokens and were left out: {n} tokens":
        "{1} 段对话中有 {0} 段超过 {2} 个词元，未予采用：共舍去 {3} 个词元",
    "{n} conversations have no answer within {n} tokens and were left out": "{0} 段对话在 {1} 个词元之内没有回答，未予采用",
    # how it was measured
    "measured on {n} of {n} tokens of the {w} text, evenly drawn{}; training.test_tokens=all measures all":
        "测量时只从 {2} 部分的 {1} 个词元中均匀抽取 {0} 个{3:said}；training.test_tokens=all 则全部测量",
    " (95 % interval of the bits per byte: {n} to {n})": "（每字节比特数的 95 % 区间：{0} 到 {1}）",
    # how it went
    "step {n}: the validation text could not be scored ({}: {}); no more looks": "第 {0} 步：验证文本无法打分（{1}：{2}）；此后不再验证",
    "the validation text could not be scored ({}: {})": "验证文本无法打分（{0}：{1}）",
    "step {n}: no sample could be written ({}: {}); no more samples": "第 {0} 步：无法写出样例（{1}：{2}）；此后不再写",
    "the loss ended at {n} nats, far above the {n} that it began with: the run diverged after step {n}, whose weights are kept; "
    "a lower training.learning_rate (here {n}) would use all of the budget":
        "损失最后为 {0} 奈特，远高于开始时的 {1}：训练在第 {2} 步之后发散，保留的是这一步的权重；"
        "把 training.learning_rate（现为 {3}）调低，才能用上全部预算",
    # batches
    "context reduced from {n} to {n}: the text has only {n} tokens": "上下文由 {0} 减为 {1}：文本只有 {2} 个词元",
    "rows repeat within a batch: {n} windows of {n} tokens for {n} rows": "一批之内有重复的行：{0} 个窗口（各 {1} 个词元）要填 {2} 行",
    "rows overlap: {n} tokens for {n} rows of {n}": "行与行重叠：{0} 个词元要填 {1} 行，每行 {2} 个",
    "{n} texts packed into {n} rows of {n} tokens, {n} filled{}": "{0} 段文本装进 {1} 行，每行 {2} 个词元，填满 {3}{4:said}",
    "; the {n} tokens that all begin with are read once a row": "；所有文本开头相同的 {0} 个词元每行只读一次",
    "{n} of {n} documents are longer than {n} tokens and were cut there: {n} tokens of them are not learned from":
        "{1} 篇文档中有 {0} 篇长于 {2} 个词元，超出的部分已截去：{3} 个词元不参与学习",
    "{n} of {n} texts that are given are longer than {n} tokens and were cut there: {n} tokens of them are not learned from":
        "{1} 段给定的文本中有 {0} 段长于 {2} 个词元，超出的部分已截去：{3} 个词元没有读",
    "text.tags: {n} of the training text's tokens have one of {n} tags, which the model reads beside them: its folder opens in Bimo alone":
        "text.tags：训练文本的词元有 {0} 带有 {1} 种标记之一，模型一并读入；这样的模型文件夹只能由 Bimo 打开",
    # how a run went
    "met its cap before its steps were done": "步数未满，预算已尽",
    "stopped early, at step {n}": "在第 {0} 步提前停止",
    "stopped early at step {n}: no improvement on validation text": "在第 {0} 步提前停止：在验证文本上不再有改进",
    "the weights are those of step {n} of {n}, the best on validation text": "所用权重来自第 {0} 步（共 {1} 步），在验证文本上最好",
    "took {n} s of a budget of {n} s: a step took longer than the budget could tell": "预算 {1} 秒，用了 {0} 秒：有一步比预计的更久",
    "metrics.jsonl was cut short or taken away before the run was resumed; the curve lacks what stood there":
        "续训之前 metrics.jsonl 已被截短或移走，曲线缺少那一部分",
    "training.compile: no working compiler here ({w}); went on without": "training.compile：这里没有可用的编译器（{0}），未经编译继续训练",
    "{n} tokens were added, and their rows learned too: only the whole model holds them":
        "新增了 {0} 个词元，它们的向量也一并学习：只有完整的模型包含它们",
    "the card has no room for the model as it is written, whole: it was measured on the processor":
        "显卡放不下所写出的完整模型：测量在处理器上进行",
    "order: no document holds {n} tokens; orders {n} to {n} are empty": "阶数：没有哪篇文档有 {0} 个词元；第 {1} 至 {2} 阶为空",
    "order {n}: too little text to estimate Kneser-Ney discounts (n-grams with count 1, 2, 3, 4: {}); the fallback {} is used":
        "{0} 阶：文本太少，无法估计 Kneser-Ney 折扣（出现 1、2、3、4 次的 n 元组分别有 {1} 个），改用 {2}",
    "the teacher wrote {n} of {n} tokens: the budget has no time for more": "教师模型只写了 {1} 个词元中的 {0} 个：预算不容许更多",
    "the teacher's documents were of another kind ({w}) than this text's ({w})": "教师模型学习时的文档划分（{0}）与本文本的（{1}）不同",
    # hybrids
    "no hybrid is made: none promises more on validation text than the best model alone":
        "没有做混合模型：在验证文本上，没有一种有望胜过最好的单个模型",
    "no hybrid is looked for: no model has learned whose score is exact": "没有寻找混合模型：没有能给出精确分数的模型",
    "no hybrid is looked for: there is no validation text to learn weights from; give --valid":
        "没有寻找混合模型：没有可用来学习权重的验证文本；请给出 --valid",
    "no hybrid is looked for: {}": "没有寻找混合模型：{0}",
    "a hybrid is not made: {}": "有一个混合模型没有做：{0}",
    "how long {} took to learn is not known, and does not count": "{0} 学习所用的时间不得而知，未计入",
    "all {n} entries are looked at, as faiss is not installed (pip install 'bimo[retrieval]')":
        "没有安装 faiss（pip install 'bimo[retrieval]'），每次都要查看全部 {0} 个条目",
    "{n} entries, drawn from the whole text, are kept, and all looked at, as faiss is not installed (pip install 'bimo[retrieval]')":
        "没有安装 faiss（pip install 'bimo[retrieval]'），只从全文中抽取 {0} 个条目保留，每次全部查看",
    "{n} of the k={n} neighbours are found in probes={n} cells; more probes find more":
        "k={1} 个近邻中，在 probes={2} 个单元里能找到 {0}；probes 越大，找到的越多",
    "{n} of {n} tokens are remembered, drawn from all of the training text; there was no time for more":
        "从整个训练文本抽取，记住了 {1} 个词元中的 {0} 个；时间不容许更多",
    "every part gives some token of the validation text no chance, so that their product does: the exponents are equal, not learned; "
    "mixture=linear mixes such parts":
        "每个部分都对验证文本的某个词元给出零概率，因此乘积也给出零概率：指数相等，未经学习；这样的部分可用 mixture=linear 来混合",
    "gives some token of the validation text no chance, which a product cannot make good: its exponent is 0":
        "对验证文本的某个词元给出零概率，乘积无法弥补：其指数为 0",
    "a gate tells held-out text no better than fixed weights do ({n} and {n} nats a token); the weights are fixed":
        "门控在留出文本上并不比固定权重好（每词元：门控 {0} 奈特，固定权重 {1} 奈特），因此权重固定",
    "all parts are averaged alike: there is no validation text that could tell which make it better":
        "各部分等权平均：没有验证文本可以判断哪些部分有益",
    "{n} of {n} parts are averaged; the others made it no better on validation text":
        "{1} 个部分中平均了 {0} 个；其余的在验证文本上没有带来改进",
}  # fmt: skip
_WHERE = {"line": "第 {} 行", "row": "第 {} 行", "record": "第 {} 条记录"}
_FIELDS = {"{n}": r"([\d.,%e+-]+)", "{w}": r"(\w+)", "{}": "(.*?)"}


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """What recognises each notice, and its Chinese."""
    found = []
    for english, chinese in NOTICES.items():
        parts = re.split(r"(\{[nw]?\})", english)
        found.append((re.compile("".join(_FIELDS.get(part) or re.escape(part) for part in parts), re.DOTALL), chinese))
    return found


class _Field(str):
    """What was filled into a notice."""

    def __format__(self, spec: str) -> str:
        return in_chinese(self) if spec == "said" else str(self)


def in_chinese(notice: str) -> str:
    """A notice in Chinese: of several, joined by semicolons, each; what stands before a colon stays, and all of it that is not known.

    >>> in_chinese("gru: stopped early, at step 40"), in_chinese("line 3: no text in field 'a' (2 skipped so)")
    ('gru：在第 40 步提前停止', "第 3 行：字段 'a' 中没有文本（因此跳过 2 条）")
    """
    if len(notice) > _LONGEST:
        return notice
    for pattern, chinese in _patterns():
        if found := pattern.fullmatch(notice):
            return chinese.format(*map(_Field, found.groups()))
    several = notice.split("; ")
    if len(several) > 1 and (told := [in_chinese(one) for one in several]) != several:
        return "；".join(told)
    head, colon, rest = notice.partition(": ")
    if not colon or (said := in_chinese(rest)) == rest:
        return notice
    where, _, number = head.partition(" ")
    return f"{_WHERE[where].format(number) if where in _WHERE and number.isdecimal() else head}：{said}"
