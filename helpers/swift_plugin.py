"""Templates for swift, loaded by its `--external_plugins`: what stands around the prompts that `helpers.templating` renders."""

from swift.template import Template, TemplateMeta, register_template

from helpers.templating import tokenize


class NewsTemplate(Template):
    """Tokenises as `helpers.templating` does, so that an article that says <eos> stays text in training, too."""

    def _tokenize(self, context, **kwargs):
        return tokenize(self.tokenizer, [context])["input_ids"][0]


# Bodies are cut before swift sees a row, so a prompt arrives whole; swift only frames it: [<bos>] prompt answer <eos>.
for name, prefix in (("news-bos", [["bos_token_id"]]), ("news", [])):
    meta = TemplateMeta(name, prefix=prefix, prompt=["{{QUERY}}"], chat_sep=None, suffix=[["eos_token_id"]], template_cls=NewsTemplate)
    register_template(meta, exist_ok=True)
