"""Every word that the tables and the report print, in English and Chinese."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from bimo.core.errors import RecipeError, did_you_mean

Language = Literal["en", "zh"]

WORDS: dict[str, tuple[str, str]] = {
    # the answer
    "on_text": ("On {text}, {budget} each{machine}, ", "在“{text}”上，每种模型{budget}{machine}，"),
    "on_text_one": ("On {text}, {budget}{machine}, ", "在“{text}”上，{budget}{machine}，"),
    "on_text_bare": ("On {text}, ", "在“{text}”上，"),
    "on_cores": (" on {n} cores", "（{n} 核）"),
    "on_core": (" on one core", "（单核）"),
    "budget_s": ("in {n} seconds", "训练 {n} 秒"),
    "budget_m": ("in {n} minutes", "训练 {n} 分钟"),
    "budget_h": ("in {n} hours", "训练 {n} 小时"),
    "budget_steps": ("in {n} steps", "训练 {n} 步"),
    "budget_epochs": ("in {n} epochs", "训练 {n} 轮"),
    "budget_tokens": ("in {n} tokens", "训练 {n} 个词元"),
    "budget_other": ("with a budget of {n}", "训练预算为 {n}"),
    "wins": ("the {best} wins: {bits} bits per byte", "{best} 胜出：每字节 {bits} 比特"),
    "fewer": (", {saved} fewer than the next, the {next}{interval}.", "，比第二名 {next} 少 {saved}{interval}。"),
    "interval": (" (95\u00a0% interval {low} to {high})", "（95% 区间 {low} 至 {high}）"),
    "level": ("{names} are level at {bits} bits per byte", "{names} 不分高下：每字节 {bits} 比特"),
    "level_chance": ("; the difference between them is within chance.", "，其差在偶然误差之内。"),
    "level_close": ("; they differ by less than half a percent, too little to call.", "，相差不到千分之五，不足以定胜负。"),
    "level_then": (" The next, the {next}, needs {bits}.", " 其后是 {next}：{bits}。"),
    "zero_next": (
        "; the next, the {next}, gives part of the text probability zero.",
        "；第二名 {next} 对部分文本给出零概率。",
    ),
    "only": (
        "only the {best} can be ranked: {bits} bits per byte (perplexity {perplexity}).",
        "只有 {best} 可以排名：每字节 {bits} 比特（困惑度 {perplexity}）。",
    ),
    "single": (
        "the {best} comes to {bits} bits per byte, a perplexity of {perplexity}.",
        "{best} 达到每字节 {bits} 比特，困惑度 {perplexity}。",
    ),
    "all_zero": (
        "none of the models gives the whole text a probability above zero.",
        "没有一个模型能对整段文本给出大于零的概率。",
    ),
    "unmeasured": ("no held-out text was measured.", "没有可供测量的留出文本。"),
    "none": ("no model finished.", "没有模型训练成功。"),
    "and": (" and ", " 与 "),
    "comma": (", ", "、"),
    "the": ("the ", ""),
    "failed_n": ("{n} of {all} failed; see below.", "{all} 个模型中有 {n} 个失败，见下文。"),
    "apart_n": ("Measured but not ranked: {names}.", "已测量但不参与排名：{names}。"),
    "interval_none": (
        "No interval is given: the test text has too few documents ({n}) to draw again.",
        "未给出区间：测试文本的文档太少（{n} 篇），无法重抽样。",
    ),
    "interval_from": (
        "Intervals: paired bootstrap over {n} test documents, 95\u00a0%.",
        "区间：对 {n} 篇测试文档做成对自助法重抽样，95%。",
    ),
    "interval_from_blocks": (
        "Intervals: paired bootstrap over {n} blocks of test text, 95\u00a0%.",
        "区间：对 {n} 段测试文本做成对自助法重抽样，95%。",
    ),
    # the page
    "title_many": ("Language models compared", "语言模型比较"),
    "title_one": ("A language model measured", "语言模型测评"),
    "page_title": ("{text} · Bimo", "{text} · 笔墨 Bimo"),
    "fact_train": ("Training text", "训练文本"),
    "fact_test": ("Test text", "测试文本"),
    "fact_tokenizer": ("Tokenizer", "分词器"),
    "fact_budget": ("Budget", "预算"),
    "fact_machine": ("Machine", "机器"),
    "fact_language": ("Language", "语言"),
    "language_en": ("English", "英文"),
    "language_zh": ("Chinese", "中文"),
    "ids": ("{n} ids", "{n} 个编号"),
    "tokens_n": ("{n} tokens", "{n} 个词元"),
    "documents_n": ("{n} documents", "{n} 篇文档"),
    "document_1": ("1 document", "1 篇文档"),
    "each": ("{n} each", "每种 {n}"),
    "bars": ("Bits per byte", "每字节比特数"),
    "bars_note": (
        "How many bits the model needs for each byte of text it has never seen. Fewer is better.",
        "模型为一个从未见过的字节所需的比特数，越少越好。",
    ),
    "bars_whisker": (" The thin line is the 95\u00a0% interval.", "细线为 95% 区间。"),
    "apart": ("Not ranked", "不参与排名"),
    "apart_kind": ("its score is of another kind: {kind}", "其得分属于另一种：{kind}"),
    "apart_tokenizer": ("its tokenizer loses bytes of the text, so it compares with no other", "其分词器会丢失字节，无法与其他分词器相比"),
    "apart_text": ("it was measured on another amount of text", "其测试文本的长度不同"),
    "failed": ("Failed", "失败"),
    "kind_exact": ("exact", "精确"),
    "kind_conditional": ("conditional, given a source", "给定原文的条件得分"),
    "kind_bound": ("bound, an ELBO", "下界（ELBO）"),
    "kind_samples": ("bound, of {n} samples", "界，取自 {n} 个样本"),
    "kind_pseudo": ("pseudo-likelihood", "伪似然"),
    "kind_unnormalised": ("unnormalised", "未归一化"),
    "figures": ("The figures", "各项指标"),
    "figures_note": ("Best of each column in red.", "每列最佳者以朱色标出。"),
    "budgeted": ("budgeted", "限时"),
    "budgeted_all": (
        "Budgeted: every figure is what the model reached within the budget, not the best it can do.",
        "限时：各项数值均为预算之内所得，并非模型的最佳水平。",
    ),
    "budgeted_some": (
        "Budgeted: trained under a budget; not the best the model can do.",
        "限时：在预算内训练，并非模型的最佳水平。",
    ),
    "capped": ("capped", "触顶"),
    "capped_note": ("Capped: the time ran out before the planned steps were done.", "触顶：计划的步数未完成时间已用尽。"),
    "lost": ("{n} bytes lost", "丢失 {n} 字节"),
    "unknown": ("{n} unknown tokens", "{n} 个未知词元"),
    "impossible": ("{n} tokens of probability zero", "{n} 个零概率词元"),
    "generation_at": (
        "Generation speed: batch {batch}, {precision}, {threads} threads.",
        "生成速度：批量 {batch}，{precision}，{threads} 线程。",
    ),
    "generation_mixed": ("Generation speeds were measured with different settings:", "各模型的生成速度测量设置不同："),
    "col_model": ("model", "模型"),
    "col_bits_per_byte": ("bits per byte", "每字节比特"),
    "col_perplexity": ("perplexity", "困惑度"),
    "col_training_speed": ("training tokens/s", "训练词元/秒"),
    "col_generation_speed": ("generation tokens/s", "生成词元/秒"),
    "col_parameters": ("parameters", "参数量"),
    "col_disk": ("size on disk", "磁盘占用"),
    "col_memory": ("peak memory", "内存峰值"),
    "col_time": ("time used", "所用时间"),
    "short_bits_per_byte": ("bits/ byte", "每字节 比特"),
    "short_perplexity": ("perp- lexity", "困惑度"),
    "short_training_speed": ("train tok/s", "训练 词元/秒"),
    "short_generation_speed": ("write tok/s", "生成 词元/秒"),
    "short_parameters": ("param- eters", "参数量"),
    "short_disk": ("on disk", "磁盘 占用"),
    "short_memory": ("peak mem.", "内存 峰值"),
    "short_time": ("time used", "所用 时间"),
    "col_seen": ("tokens seen", "已见词元"),
    "col_steps": ("steps", "步数"),
    "learning": ("How they learned", "学习过程"),
    "learning_one": ("How it learned", "学习过程"),
    "learning_note": (
        "Bits per byte of the validation text while training; thin and pale, of the training text.",
        "训练过程中验证文本的每字节比特数；浅细线为训练文本。",
    ),
    "learning_counted": (
        " A model without a curve, being counted in one pass, is a point, carried on as a dotted line.",
        "一遍计数而成的模型没有曲线，只有一个点，以虚线延伸。",
    ),
    "over_seconds": ("over training time", "随训练时间"),
    "over_tokens": ("over tokens read", "随已读词元数"),
    "cut_off": (" The high beginnings are cut off.", "过高的起始段已截去。"),
    "axis_seconds": ("seconds of training", "训练秒数"),
    "axis_tokens": ("training tokens read", "已读训练词元数"),
    "axis_bits": ("bits per byte", "每字节比特数"),
    "axis_speed": ("tokens generated per second", "每秒生成词元数"),
    "axis_memory": ("peak memory", "内存峰值"),
    "tradeoffs": ("What quality costs", "质量的代价"),
    "tradeoffs_note": (
        "Lower is better in all three; left is better for time and memory, right for speed. "
        "The grey line joins the models that no other beats on both counts.",
        "三图均以低者为佳；时间与内存以左为佳，速度以右为佳。灰线连接在两方面都未被超越的模型。",
    ),
    "by_time": ("against training time", "质量对训练时间"),
    "by_speed": ("against generation speed", "质量对生成速度"),
    "by_memory": ("against memory", "质量对内存"),
    "samples": ("What they write", "它们写了什么"),
    "samples_one": ("What it writes", "它写了什么"),
    "samples_note": ("The prompt is underlined; the model wrote the rest.", "加下划线者为提示，其余由模型写出。"),
    "cut_sample": ("… {n} more characters", "…… 另有 {n} 个字符"),
    "distinct_1": ("distinct words", "不同词的比例"),
    "distinct_2": ("distinct pairs", "不同二元组的比例"),
    "repetition_4": ("repeated 4-grams", "重复四元组的比例"),
    "plan": ("The plan beside the truth", "计划与实际"),
    "plan_note": ("Estimated before the first step; measured after the last.", "估计在第一步之前，实测在最后一步之后。"),
    "plan_estimate": ("estimated", "估计"),
    "plan_truth": ("measured", "实测"),
    "plan_ratio": ("measured / estimated", "实测 / 估计"),
    "plan_time": ("training time", "训练时间"),
    "plan_speed": ("training tokens/s", "训练词元/秒"),
    "text": ("The text", "文本"),
    "split_train": ("training", "训练"),
    "split_valid": ("validation", "验证"),
    "split_test": ("test", "测试"),
    "col_split": ("part", "部分"),
    "col_documents": ("documents", "文档"),
    "col_tokens": ("tokens", "词元"),
    "col_bytes": ("bytes", "字节"),
    "col_file": ("file", "文件"),
    "col_format": ("format", "格式"),
    "col_encoding": ("encoding", "编码"),
    "read": ("Files read: {n}", "已读取文件：{n} 个"),
    "skipped": ("Skipped: {n}", "已跳过：{n}"),
    "skipped_none": ("Nothing was skipped.", "没有跳过任何内容。"),
    "mode_file": ("Each file (or record) is a document.", "每个文件（或记录）为一篇文档。"),
    "mode_line": ("Each line is a document, closed by </s>.", "每行为一篇文档，以 </s> 结束。"),
    "mode_paragraph": ("Each paragraph is a document.", "每段为一篇文档。"),
    "mode_stream": ("Each file is one stream; every newline is a </s>.", "每个文件为一条连续的流，每个换行即 </s>。"),
    "recipes": ("The recipes", "配方"),
    "recipes_note": ("Every setting as it was resolved before the first step.", "第一步之前确定下来的全部设置。"),
    "again": ("Do it again", "重做一遍"),
    "percent": ("{n}\u00a0%", "{n}%"),
    "seed": ("seed {n}", "随机种子 {n}"),
    "cores_n": ("{n} cores", "{n} 核"),
    "threads_n": ("{n} threads", "{n} 线程"),
    "memory_n": ("{n} memory", "内存 {n}"),
    "notices": ("Notices", "说明"),
    "footer": (
        "Bits per byte: the negative log-likelihood in bits over the UTF-8 bytes of the held-out text, "
        "so that models with different "
        "tokenizers compare. Perplexity: the same per token; it compares only under one tokenizer. "
        "Kinds of score are never mixed in a ranking.",
        "每字节比特数：留出文本的负对数似然（以比特计）除以其 UTF-8 字节数，"
        "因此分词器不同的模型也可比较。"
        "困惑度：同一量按词元计，只在同一分词器下可比。不同种类的得分不混排。",
    ),
    "made_by": ("Written by Bimo {version}.", "由笔墨 Bimo {version} 生成。"),
    "colon": (": ", "："),
}


def words(lang: str) -> Callable[..., str]:
    """A function that gives the words of a key in `lang`, its fields filled in; an unknown language lists the known.

    >>> words("en")("seed", n=3), words("zh")("figures")
    ('seed 3', '各项指标')
    """
    languages = ("en", "zh")
    if lang not in languages:
        raise RecipeError(f"lang: unknown language {lang!r}; {did_you_mean(lang, languages)}")
    place = languages.index(lang)

    def word(key: str, /, **fields: object) -> str:
        text = WORDS[key][place]
        return text.format(**fields) if fields else text

    return word
