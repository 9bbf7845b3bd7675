// Runs our external delegate inside Node's binding of TensorFlow Lite 2.9; called by run.py in a folder that has it.
//
//     node client.js PLAN.json
//
// Prints as client.py does.
const crypto = require("crypto");
const fs = require("fs");
const module_ = require("module");

const need = module_.createRequire(process.cwd() + "/");
const tf = need("@tensorflow/tfjs-core");
need("@tensorflow/tfjs-backend-cpu");
const tflite = need("tfjs-tflite-node");

const plan = JSON.parse(fs.readFileSync(process.argv[2]));

function delegate(options) {
  return { name: "bantam", node: { path: plan.library }, options: Object.entries(options) };
}

async function predict(options) {
  const model = await tflite.loadTFLiteModel(plan.bridged, { delegates: options ? [delegate(options)] : [] });
  const bytes = Buffer.from(plan.answers.digits_input, "base64");
  const input = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const output = model.predict(tf.tensor(input, [1, 8, 8, 1])).dataSync();
  return crypto.createHash("sha256").update(Buffer.from(output.buffer, output.byteOffset, output.byteLength)).digest("hex");
}

// The binding hands over options whose strings it has freed, and adds the NULL that it gets for them as a delegate: one short
// option is all that comes through.
const checks = {
  // The bytes that our kernels gave inside LiteRT, which are not those of this runtime's own.
  async exact() {
    const same = (await predict({ numerics: "reference" })) === plan.answers.digits;
    const differs = (await predict(null)) !== plan.answers.digits;
    return [same && differs, "1 model equal"];
  },
};

(async () => {
  for (const [check, body] of Object.entries(checks)) {
    console.log(JSON.stringify({ check, begins: true }));
    let [holds, text] = [false, ""];
    try {
      [holds, text] = await body();
    } catch (error) {
      text = String(error);
    }
    console.log(JSON.stringify({ check, holds, text }));
  }
})();
