// A shot as code, in each way there is to ask for it. Pure: text in, text out. Every snippet reads the key from the
// environment, so that it can be shown, kept and shared as it is.

const VARIABLE = "MUTOSCOPE_API_KEY";

const shell = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;
const json = (value) => JSON.stringify(value, null, 2);

/** A JSON value as Python writes it. */
function python(value, indent = "") {
  const inner = `${indent}    `;
  if (Array.isArray(value)) return `[${value.map((each) => python(each, indent)).join(", ")}]`;
  if (value && typeof value === "object") {
    const lines = Object.entries(value).map(
      ([name, each]) => `${inner}${JSON.stringify(name)}: ${python(each, inner)},`,
    );
    return `{\n${lines.join("\n")}\n${indent}}`;
  }
  if (typeof value === "boolean") return value ? "True" : "False";
  return value === null ? "None" : JSON.stringify(value);
}

function curl({ origin, model, inputs }) {
  return `curl ${origin}/api/v3/${model} \\
  -H "Authorization: Bearer $${VARIABLE}" \\
  -H 'Content-Type: application/json' \\
  -d ${shell(json(inputs))}

# The answer holds an id; ask for its result until status is "completed":
curl ${origin}/api/v3/predictions/$ID/result -H "Authorization: Bearer $${VARIABLE}"`;
}

function wavespeed({ origin, model, inputs }) {
  return `# pip install wavespeed
import os
from wavespeed import Client

client = Client(api_key=os.environ["${VARIABLE}"], base_url="${origin}")
result = client.run(
    "${model}",
    ${python(inputs, "    ")},
)
print(result["outputs"][0])`;
}

function openai({ origin, model, inputs, size }) {
  const { prompt, duration, images, seed } = inputs;
  const extra = { input_reference: images, ...(seed !== undefined && { seed }) };
  return `# pip install openai
import os
from openai import OpenAI

client = OpenAI(api_key=os.environ["${VARIABLE}"], base_url="${origin}/v1")
video = client.videos.create_and_poll(
    model="${model}",
    prompt=${python(prompt)},
    seconds="${duration}",
    size="${(size ?? [1280, 720]).join("x")}",
    extra_body=${python(extra, "    ")},
)
client.videos.download_content(video.id).write_to_file("video.mp4")`;
}

function javascript({ origin, model, inputs }) {
  return `const server = "${origin}/api/v3";
const headers = { Authorization: \`Bearer \${process.env.${VARIABLE}}\`, "Content-Type": "application/json" };

async function ask(path, body) {
  const method = body ? "POST" : "GET";
  const answer = await fetch(server + path, { method, headers, body: body && JSON.stringify(body) });
  const { data, message } = await answer.json();
  if (!answer.ok) throw new Error(message);
  return data;
}

let video = await ask("/${model}", ${json(inputs)});
while (["created", "processing"].includes(video.status)) {
  await new Promise((resolve) => setTimeout(resolve, 1000));
  video = await ask(\`/predictions/\${video.id}/result\`);
}
console.log(video.error || video.outputs[0]);`;
}

function cli({ origin, engine, inputs }) {
  const { prompt, images = [], aspect_ratio: shape, duration, seed, resolution } = inputs;
  const options = [
    ...images.map((image) => `-r ${shell(image)}`),
    `--engine ${engine}`,
    shape && `--shape ${shape}`,
    duration && `--duration ${duration}`,
    seed >= 0 && `--seed ${seed}`,
    resolution && `--resolution ${resolution}`,
    `--server ${shell(origin)} --key "$${VARIABLE}"`,
    "-o video.mp4",
  ];
  return [`mutoscope render ${shell(prompt ?? "")}`, ...options.filter(Boolean).map((option) => `  ${option}`)].join(
    " \\\n",
  );
}

function mcp({ origin }) {
  return json({
    mcpServers: { mutoscope: { command: "mutoscope", args: ["mcp", "--server", origin], env: { [VARIABLE]: "…" } } },
  });
}

/** name → { write, note }: `write` takes { origin, model, engine, inputs, size }. */
export const SNIPPETS = {
  curl: { write: curl },
  "Python (wavespeed)": { write: wavespeed },
  "Python (openai)": { write: openai },
  JavaScript: { write: javascript },
  "Command line": { write: cli },
  MCP: {
    write: mcp,
    note: "For the settings of a client of the Model Context Protocol; put the key in place of the dots.",
  },
};

export const exportKey = (key) => `export ${VARIABLE}=${key}`;
