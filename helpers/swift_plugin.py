"""Templates for swift, loaded by its `--external_plugins`: what stands around the prompts that
`helpers.templating` renders.
"""

import os
import threading
import time

from swift.template import Template, TemplateMeta, register_template

from helpers.templating import tokenize


class NewsTemplate(Template):
    """Tokenises as `helpers.templating` does, so that an article that says <eos> stays text in
    training, too.
    """

    def _tokenize(self, context, **kwargs):
        return tokenize(self.tokenizer, [context])["input_ids"][0]


def watch(pid: int) -> None:
    """End this process when process `pid` has gone: nobody would read what it goes on to write."""
    while True:
        time.sleep(1)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            os._exit(1)


if parent := os.environ.get("CHINESE_NEWS_BOOK_PARENT"):
    threading.Thread(target=watch, args=(int(parent),), daemon=True).start()

# Bodies are cut before swift sees a row, so a prompt arrives whole; swift only frames it: [<bos>]
# prompt answer <eos>.
for name, prefix in (("news-bos", [["bos_token_id"]]), ("news", [])):
    meta = TemplateMeta(
        name,
        prefix=prefix,
        prompt=["{{QUERY}}"],
        chat_sep=None,
        suffix=[["eos_token_id"]],
        template_cls=NewsTemplate,
    )
    register_template(meta, exist_ok=True)
