"""Every word that the tables and the report print, in English and Chinese: the answer here, the page in `wording_page`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from bimo.core.errors import RecipeError, did_you_mean
from bimo.evaluation.report.wording_explained import EXPLAINED
from bimo.evaluation.report.wording_page import PAGE

Language = Literal["en", "zh"]

WORDS: dict[str, tuple[str, str]] = {
    # the answer
    "on_text": ("On {text}, {budget} each{machine}, ", "在“{text}”上，每种模型{budget}{machine}，"),
    "on_text_one": ("On {text}, {budget}{machine}, ", "在“{text}”上，{budget}{machine}，"),
    "on_text_bare": ("On {text}, ", "在“{text}”上，"),
    "held_out_of": ("the held-out part of {text}", "{text} 的留出部分"),
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
    "more_time": (
        "With more time ({time}, its parts included) the {best} comes to {bits}, {saved} fewer than the {than}{interval}.",
        "若给更多时间（连同各部分共 {time}），{best} 可达 {bits}，比 {than} 少 {saved}{interval}。",
    ),
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
    **PAGE,
    **EXPLAINED,
}


def words(lang: str) -> Callable[..., str]:
    """A function that gives the words of a key in `lang`, its fields filled in; an unknown language lists the known.

    What stands under the key with `_1` behind it is said of one.

    >>> words("en")("seed", n=3), words("zh")("figures"), words("en")("cores_n", n=1)
    ('seed 3', '各项指标', '1 core')
    """
    languages = ("en", "zh")
    if lang not in languages:
        raise RecipeError(f"lang: unknown language {lang!r}; {did_you_mean(lang, languages)}")
    place = languages.index(lang)

    def word(key: str, /, **fields: object) -> str:
        text = WORDS[f"{key}_1" if fields.get("n") in (1, "1") and f"{key}_1" in WORDS else key][place]
        return text.format(**fields) if fields else text

    return word
