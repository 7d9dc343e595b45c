"""What a page about one text, and its table in the terminal, say: English and Chinese."""

from __future__ import annotations

EXPLAINED: dict[str, tuple[str, str]] = {
    "explained": ("A text explained", "一段文本的解读"),
    "explained_page": ("{model} on a text · Bimo", "{model} 读文本 · 笔墨 Bimo"),
    "needs": (
        "{model} needs {bits} bits for this text, {each} a token.",
        "{model} 读这段文本共需 {bits} 比特，平均每个词元 {each} 比特。",
    ),
    "needs_most": (
        "{model} needs at most {bits} bits for this text, {each} a token.",
        "{model} 读这段文本至多需 {bits} 比特，平均每个词元 {each} 比特。",
    ),
    "needs_impossible": (
        "{model} gives {n} of the {all} tokens of this text probability zero.",
        "{model} 对这段文本 {all} 个词元中的 {n} 个给出零概率。",
    ),
    "fact_score": ("Score", "得分"),
    "fact_scored": ("Tokens scored", "计分词元"),
    "fact_perplexity": ("Perplexity of a token", "每词元困惑度"),
    "fact_windows": ("Windows", "窗口"),
    "fact_parts": ("Parts", "部分"),
    "fact_unknown": ("Unknown tokens", "未知词元"),
    "fact_given": ("Given", "原文"),
    "windows_n": ("{n} of {context} tokens, each read anew", "{n} 个，每个 {context} 词元，各自重新读起"),
    "note_bound": (
        "A bound: at most so many bits, on average. A token's part of it is no probability of its own, and the end of the text also bears "
        "what the latent costs. What else was likely is told at the mean of the latent.",
        "这是界：平均而言至多如此多比特。一个词元所占的部分本身不是概率，文末还记着隐变量的代价。其余可能的词元按隐变量的均值给出。",
    ),
    "note_pseudo": (
        "A pseudo-likelihood: each token is hidden in turn and told from all the others, on both sides.",
        "伪似然：逐个遮住词元，由两侧其余所有词元推断。",
    ),
    "note_unnormalised": ("The scores of all tokens do not sum to one.", "所有词元的得分之和不为一。"),
    "note_conditional": ("Each token given the source and the tokens before it.", "每个词元以原文与其前的词元为条件。"),
    "note_exact": ("Each token given the tokens before it.", "每个词元以其前的词元为条件。"),
    "marked": ("The text by surprise", "文本与意外程度"),
    "marked_note": (
        "The more bits a token took, the redder the ground and the higher the bar below. A character that is several tokens has their sum.",
        "词元所需比特越多，底色越红，下方横条越高。由几个词元组成的字取其总和。",
    ),
    "one_by_one": ("Token by token", "逐个词元"),
    "one_by_one_note": (
        "Bits: what the token took, log₂ of 1 / probability. Rank: its place among all tokens, the likeliest being 1.",
        "比特：词元所需，即 1 / 概率的以 2 为底的对数。名次：在所有词元中的位置，最可能者为 1。",
    ),
    "counts_note": (
        "Counts are of the training text: how often the context came, and how often this token after it, from the longest context that "
        "was seen to the one after which the token was. For shorter contexts Kneser–Ney uses continuation counts instead: in how many "
        "different contexts the words came.",
        "计数来自训练文本：上文出现几次，其后接此词元几次，从见过的最长上文直到其后出现过它的上文。"
        "Kneser–Ney 对较短的上文改用续接计数：这些词出现于多少种不同的上文。",
    ),
    "parts_note": (
        "The bar is who said it: each part's share of the token's probability, its weight times its own probability.",
        "横条表示是谁说的：各部分在词元概率中所占的份额，即权重乘以其自身概率。",
    ),
    "product_note": (
        "A product of the parts, each to the power of its weight, so that there are no shares; each part's own probability is told.",
        "各部分以权重为指数相乘，因此没有份额，给出各部分自身的概率。",
    ),
    "recalled_note": (
        "What a memory recalled most is told with its share of the memory's word.",
        "记忆所忆起最多者，附其在该记忆所言中的份额。",
    ),
    "col_token": ("token", "词元"),
    "col_bits": ("bits", "比特"),
    "col_probability": ("probability", "概率"),
    "col_rank": ("rank", "名次"),
    "col_likeliest": ("likeliest", "最可能"),
    "col_why": ("what it rests on", "依据"),
    "came": ("{n}-gram: {count} of {total} after “{context}”", "{n} 元：“{context}”后 {total} 次中 {count} 次"),
    "came_alone": ("1-gram: {count} of {total}", "1 元：{total} 次中 {count} 次"),
    "came_unknown": ("{n}-gram after “{context}”", "{n} 元：“{context}”后"),
    "came_alone_unknown": ("1-gram", "1 元"),
    "came_continued": (" (continuations {left} of {total})", "（续接计数 {total} 中 {left}）"),
    "back_n": ("“{text}” {n} back {share}", "前 {n} 处“{text}” {share}"),
    "says_nothing": ("nothing yet", "尚无所言"),
    "more_tokens": ("… {n} more tokens; --json tells all.", "…… 另有 {n} 个词元；--json 给出全部。"),
}
