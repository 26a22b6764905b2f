"""The official clients of the AI SDK's stream, without a browser, against any chat.

    node chat.mjs --modules DIR --package ai|ai6|ai5 --api URL SCENARIO...
    node decoder.mjs --modules DIR --api URL WORD...

``DIR`` is where ``node_modules`` is, with ai@7.0.173, ai5@npm:ai@5.0.277, ai6@npm:ai@6.0.326 and
assistant-stream@0.3.57. ``URL`` is that of the format, such as http://127.0.0.1:8000/ai-sdk. Behind
the chat is a FakeUpstream whose ``default`` is that of ``model.Model``; its profile allows tools
and images. Both scripts print a line of JSON for each scenario: the state of the client at its end.

``resume``, ``trip`` and ``cancel`` differ with ``runs.linger``: without it there is nothing to
resume. ``limited`` needs a limit of fewer than 20 requests. A request of ``silent`` is silent for a
second, so a short ``ping_interval`` shows that pings are ignored.

Calls of the model that each scenario may make, by word (``Model.asked``): ``tools`` makes 20 with
"tool", ``chain`` and ``same`` make 4, ``parallel`` and ``trip`` 2, ``regenerate`` 3 with "text",
``retry`` 2, ``twice`` 1, and the others one for each message that is sent.
"""
