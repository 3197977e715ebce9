"""The server with OpenAI's own client: completions and chats, whole and as streams, errors, the list of models.

    PRETRAIN=bin/pretrain python openai_check.py RUN
"""

import sys

import openai

from common import ask, server

run = sys.argv[1]
with server(run, "--chat-template", "chatml", "--precision", "fp32", "--name", "tiny") as (_, url):
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    assert [m.id for m in client.models.list()] == ["tiny"]

    def complete(**more):
        return client.completions.create(model="tiny", prompt="func main() {", max_tokens=40, temperature=0.8, seed=3, **more)

    whole = complete()
    again = complete()
    stream = list(complete(stream=True))
    assert whole.choices[0].text == again.choices[0].text == "".join(c.choices[0].text for c in stream), "a seed gives one text"
    assert len(stream) > 2 and stream[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    ours = ask("generate", "--checkpoint", run, "--precision", "fp32", "--prompt", "func main() {", "--tokens", "40", "--seed", "3", "--json")[0]
    assert whole.choices[0].text == ours["text"], (whole.choices[0].text, ours["text"])
    assert whole.usage.prompt_tokens == len(ours["prompt_tokens"])

    many = client.completions.create(model="tiny", prompt=["a", "b"], n=2, max_tokens=5, stop=["\n"])
    assert len(many.choices) == 4 and all("\n" not in c.text for c in many.choices)

    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "你好"}]
    chat = client.chat.completions.create(model="tiny", messages=talk, max_tokens=30, seed=5)
    parts = list(client.chat.completions.create(model="tiny", messages=talk, max_tokens=30, seed=5, stream=True, stream_options={"include_usage": True}))
    assert chat.choices[0].message.role == "assistant"
    assert chat.choices[0].message.content == "".join(p.choices[0].delta.content or "" for p in parts if p.choices)
    assert parts[-1].usage.total_tokens == chat.usage.total_tokens

    for wrong, error in [({"model": "gpt-4"}, openai.NotFoundError), ({"max_tokens": 10**6}, openai.BadRequestError), ({"logprobs": 3}, openai.BadRequestError)]:
        try:
            client.completions.create(**{"model": "tiny", "prompt": "a", **wrong})
        except error as e:
            print(f"  refused as it should be: {e.body['message']}")
        else:
            sys.exit(f"{wrong} was answered")
print(f"openai {openai.__version__}: completions and chats, whole and streamed, errors, models: as they should be")
