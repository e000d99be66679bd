"""Control tokens of well-known families of models, by their shape: all that can be broken in a text for a server that
shows neither its tokens nor its ids.

A family whose tokens look like none of these is not covered; where text that is judged may be hostile, a server that
shows its tokens (vLLM) or a folder is needed. Shapes, not a list: `<|anything|>` is one, with ASCII or full-width bars.
"""

from __future__ import annotations

import re

from pipeline.engines.plain_text import BREAK, readable

_SHAPES = (
    r"\|[^<>\s]{0,80}?\|?>",  # <|im_end|>, <|eot_id|>, <|turn>
    r"[^<>\s|]{1,40}\|>",  # <turn|>
    "\uff5c[^<>\n]{1,80}\uff5c>",  # DeepSeek's full-width bars
    r"/?(?:s|bos|eos|pad|unk|mask|cls|sep|sop|eop|eod|eot|image|audio|video|tools?|tool_\w{1,20}|function_\w{1,20})>",
    r"/?(?:think|thinking|thought|thoughts|reasoning|inner_\w{1,20}|scratchpad|answer)>",
    r"/?(?:seed|longcat|minimax)[:_]\w{1,40}>",
    r"(?:start|end|begin)_of_\w{1,40}>",  # Gemma
    r"(?:start|end)_\w{1,40}>|\w{1,40}_(?:start|end|sep)>",
    r"(?:unused|reserved|extra_id|special)_?(?:token_?)?\d{1,6}>",
    r"</?SYS>>",
    r"(?:repo_name|reponame|filename|gh_stars|jupyter_\w{1,20}|issue_\w{1,20}|empty_output|fim_\w{1,20})>",
)
_BRACKETS = (
    r"/?(?:INST|SYSTEM_PROMPT|THINK|TOOL_CALLS?|TOOL_RESULTS?|TOOL_CONTENT|AVAILABLE_TOOLS|ARGS|CALL_ID|PREFIX|MIDDLE|"
    r"SUFFIX|IMG|IMG_BREAK|IMG_END|AUDIO|BEGIN_AUDIO|TRANSCRIBE|MODEL_SETTINGS|CLS|SEP|MASK|PAD|UNK|BOS|EOS|e~\[|gMASK|"
    r"sMASK|multimodal|ASSISTANT|USER|SYSTEM)\]"
)
_SPELLED = re.compile(
    f"<{BREAK}*(?:{'|'.join(_SHAPES)})|\\[{BREAK}*(?:{_BRACKETS})|\u25c1{BREAK}*/?\\w{{1,40}}\u25b7", re.IGNORECASE
)


def broken(text: str) -> str:
    """`text` with a zero-width space behind the first character of whatever looks like a control token: one more than
    there were already, so that no two texts become one."""
    return _SPELLED.sub(lambda found: f"{found[0][0]}{BREAK}{found[0][1:]}", readable(text))
