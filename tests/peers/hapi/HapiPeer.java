import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.IValidationSupport;
import ca.uhn.fhir.jpa.api.config.JpaStorageSettings;
import ca.uhn.fhir.jpa.api.dao.IFhirSystemDao;
import ca.uhn.fhir.jpa.provider.JpaCapabilityStatementProvider;
import ca.uhn.fhir.jpa.provider.JpaSystemProvider;
import ca.uhn.fhir.jpa.test.config.TestHSearchAddInConfig;
import ca.uhn.fhir.jpa.test.config.TestR4Config;
import ca.uhn.fhir.rest.api.EncodingEnum;
import ca.uhn.fhir.rest.server.RestfulServer;
import ca.uhn.fhir.rest.server.provider.ResourceProviderFactory;
import ca.uhn.fhir.rest.server.util.ISearchParamRegistry;
import java.net.InetSocketAddress;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;

/**
 * HAPI's JPA server for FHIR R4 on a loopback port of the system's choice. It says where on a line
 * of its own and ends when its input ends, so that it never outlives the test that started it.
 */
final class HapiPeer {
  public static void main(String[] arguments) throws Exception {
    var beans =
        new AnnotationConfigApplicationContext(TestR4Config.class, TestHSearchAddInConfig.NoFT.class);
    var server = new Server(new InetSocketAddress("127.0.0.1", 0));
    var context = new ServletContextHandler();
    context.addServlet(new ServletHolder(fhirServlet(beans)), "/fhir/*");
    server.setHandler(context);
    server.start();
    int port = ((ServerConnector) server.getConnectors()[0]).getLocalPort();
    System.out.println("listening http://127.0.0.1:" + port + "/fhir");
    while (System.in.read() >= 0) {
      // Whoever started us is still there.
    }
    System.exit(0);
  }

  private static RestfulServer fhirServlet(AnnotationConfigApplicationContext beans) {
    var fhir = new RestfulServer(beans.getBean(FhirContext.class));
    fhir.setDefaultResponseEncoding(EncodingEnum.JSON);
    fhir.registerProviders(
        beans.getBean("myResourceProvidersR4", ResourceProviderFactory.class).createProviders());
    fhir.registerProvider(beans.getBean(JpaSystemProvider.class));
    fhir.setServerConformanceProvider(
        new JpaCapabilityStatementProvider(
            fhir,
            beans.getBean(IFhirSystemDao.class),
            beans.getBean(JpaStorageSettings.class),
            beans.getBean(ISearchParamRegistry.class),
            beans.getBean(IValidationSupport.class)));
    return fhir;
  }
}
