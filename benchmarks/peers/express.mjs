// What the documentation of Express and of the openai package lead to.
import express from "express";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BENCH_UPSTREAM, apiKey: "k" });
const app = express();
app.use(express.json());

app.post("/api/chat", async (request, response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
  const stream = await client.chat.completions.create({
    model: "gpt-4o-mini",
    messages: request.body.messages,
    max_tokens: 4000,
    stream: true,
  });
  for await (const chunk of stream) {
    const text = chunk.choices[0]?.delta?.content;
    if (text) response.write(`event: token\ndata: ${JSON.stringify(text)}\n\n`);
  }
  response.end("event: done\ndata: \n\n");
});

app.listen(Number(process.env.PORT), "127.0.0.1", 4096);
