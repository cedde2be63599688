# SPDX-License-Identifier: Apache-2.0
"""Texts that try to run a script in a page."""

from __future__ import annotations

RUN = "window.ran=1"
PAYLOADS = [
    f"<script>{RUN}</script>", f"</script><script>{RUN}</script>",
    f"</style><script>{RUN}</script>",
    f"</title><script>{RUN}</script>", f"<img src=x onerror={RUN}>", f"'><img src=x onerror={RUN}>",
    f'"><img src=x onerror="{RUN}">', f"<svg onload={RUN}>", f"<svg><script>{RUN}</script></svg>",
    f"<body onload={RUN}>", f"<iframe srcdoc='<script>parent.{RUN}</script>'>",
    f"<iframe src=javascript:parent.{RUN}>", f"<a href=javascript:{RUN}>x</a>", f"javascript:{RUN}",
    f"<details open ontoggle={RUN}>", f"<input autofocus onfocus={RUN}>",
    f"<meta http-equiv=refresh content='0;url=javascript:{RUN}'>", "<base href=//evil.example/>",
    f'" onmouseover="{RUN}" x="', f"' onfocus='{RUN}' autofocus tabindex=0 x='", f"-->{RUN}<!--",
    "<link rel=stylesheet href=//evil.example/a.css>", f"<object data=javascript:{RUN}>",
    f"<form action=javascript:{RUN}><button autofocus>", f"{{{{{RUN}}}}}", f"{{%{RUN}%}}",
    f"${{{RUN}}}", f"\u202e<script>{RUN}</script>", f"&lt;script&gt;{RUN}&lt;/script&gt;",
    f"\\u003cscript\\u003e{RUN}\\u003c/script\\u003e", "<style>*{background:url(//e.example)}",
    f"<math><mtext><img src=x onerror={RUN}></math>",
]  # fmt: skip
