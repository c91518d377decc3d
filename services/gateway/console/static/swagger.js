// Swagger UI of this gateway's document. No badge of an online validator, no form for other documents.

const root = document.getElementById("swagger-ui");
window.SwaggerUIBundle({
  url: new URL(root.dataset.url, location.href).href,
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  persistAuthorization: false,
  showExtensions: true,
  showCommonExtensions: true,
});
