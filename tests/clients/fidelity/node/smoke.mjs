// Azure's own SDKs for Node, unmodified, against the region that the environment names.
import { ResourceManagementClient } from "@azure/arm-resources";
import { EnvironmentCredential } from "@azure/identity";
import { SecretClient } from "@azure/keyvault-secrets";

const credential = new EnvironmentCredential();
const resources = new ResourceManagementClient(credential, process.env.AZURE_SUBSCRIPTION_ID);
const group = await resources.resourceGroups.createOrUpdate("rg-node", { location: "westeurope" });
if (group.properties.provisioningState !== "Succeeded") throw new Error(JSON.stringify(group));
await resources.resourceGroups.beginDeleteAndWait("rg-node");
if ((await resources.resourceGroups.checkExistence("rg-node")).body) throw new Error("it is still there");

const secrets = new SecretClient(`https://${process.env.VAULT}.vault.azure.net`, credential);
const written = await secrets.setSecret("from-node", "wert");
const read = await secrets.getSecret("from-node");
if (read.value !== "wert" || read.properties.version !== written.properties.version) throw new Error(JSON.stringify(read));
try {
  await secrets.getSecret("absent");
  throw new Error("an absent secret was found");
} catch (error) {
  if (error.code !== "SecretNotFound") throw error;
}
console.log("fine");
