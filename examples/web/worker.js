// Runs the model beside the page, so that the page answers while shaders are compiled.

import { WebWorkerMLCEngineHandler } from "/web-llm/index.js";

const handler = new WebWorkerMLCEngineHandler();
self.onmessage = (message) => handler.onmessage(message);
