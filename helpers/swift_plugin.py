"""What swift loads through `--external_plugins`: a frame for prompts, and what keeps adapters."""

import os
import threading
import time
from pathlib import Path

from swift.callbacks import TrainerCallback
from swift.callbacks.mapping import callbacks_map
from swift.template import Template, TemplateMeta, register_template

from helpers.files import read_json
from helpers.swift_setup import KEPT, WATCHED
from helpers.templating import tokenize


class NewsTemplate(Template):
    """Tokenises as `helpers.templating` does: <eos> in an article is plain text here, too."""

    def _tokenize(self, context, **kwargs):
        return tokenize(self.tokenizer, [context])["input_ids"][0]

    @staticmethod
    def _concat_context_list(*contexts, round0=None, **parts):
        # otherwise swift would replace every {{ROUND0}} in an article by the number of the round
        Template._concat_context_list(*contexts, **parts)


def watch(pid: int) -> None:
    """End this process when process `pid` is gone: nobody would read what it goes on to write."""
    while True:
        time.sleep(1)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            os._exit(1)


if parent := os.environ.get(WATCHED):
    threading.Thread(target=watch, args=(int(parent),), daemon=True).start()


class KeepAdapters(TrainerCallback):
    """Saves the adapter alone after the steps that the file KEPT in swift's folder lists.

    A learning curve needs the weights of many steps, but not their optimizers.
    """

    def on_step_end(self, args, state, control, model=None, **kwargs):
        steps = Path(KEPT)  # there is none in a run repeated by hand
        if steps.exists() and state.global_step in read_json(steps):
            adapted = self.trainer.accelerator.unwrap_model(model)
            adapted.save_pretrained(f"curve/step-{state.global_step}")


callbacks_map["keep_adapters"] = KeepAdapters

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
